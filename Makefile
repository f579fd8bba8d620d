# Millrace. `make` alone prints what there is.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

.PHONY: help
help: ## print this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Servers

.PHONY: services
services: ## start MySQL, MariaDB, Kafka and a schema registry; print their addresses; Ctrl-C stops them
	@go run ./tests/services/up

.PHONY: services-install
services-install: ## only fetch what those servers need, into ~/.cache/millrace
	@go run ./tests/services/up install
