# Millrace. `make` alone prints what there is.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# What is fetched once and kept between runs stands here, outside the work tree.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/millrace
GOLANGCI_VERSION := v2.11.0
GOLANGCI := $(CACHE)/bin/golangci-lint-$(GOLANGCI_VERSION)

# Packages whose tests need nothing but Go, and those that drive the program
# from outside on real servers. Some of the first have tests on servers too.
ROOMS := ./connector/... ./transform/... ./schemas/...
# What shows how it does under faults has targets of its own.
OUTSIDE = $(shell go list ./tests/... | grep -v /tests/faults)

# Seconds of each fuzz target.
FUZZ_SECONDS ?= 30

.PHONY: help
help: ## print this help
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Use

.PHONY: build
build: ## build bin/millrace
	@mkdir -p bin
	go build -trimpath -o bin/millrace ./connector

.PHONY: demo
demo: ## watch a shop's orders become events; DEMO_SECONDS=60 ends it, KAFKA=apache and DATABASE=mariadb take others
	@mkdir -p bin && go build -o bin/sandbox ./tests/sandbox && go build -trimpath -o bin/millrace ./connector
	@MILLRACE_BINARY=$(CURDIR)/bin/millrace DEMO_SECONDS=$(DEMO_SECONDS) exec bin/sandbox

# Where NAME is not given, story lists what there is.
.PHONY: story
story: build ## a story of why people want an outbox, narrated: NAME=post; STORY_SEED=7, STORY_HOLD=300 to look around
	@test -n "$(NAME)" || { echo "make story NAME=…, one of:"; grep '^| `' tests/scenarios/README.md; exit 2; }
	@STORY_SEED=$(STORY_SEED) STORY_HOLD=$(STORY_HOLD) STORY_SECONDS=$(STORY_SECONDS) STORY_ORDERS=$(STORY_ORDERS) MILLRACE_BINARY=$(CURDIR)/bin/millrace \
	  go test -count=1 -v -timeout 60m -run '^TestStories$$/^$(NAME)$$' ./tests/scenarios

.PHONY: services
services: bin/up ## start MySQL, MariaDB, Kafka and a schema registry, print their addresses, stop them on Ctrl-C
	@exec bin/up

.PHONY: services-install
services-install: bin/up ## only fetch what those servers need, into ~/.cache/millrace
	@bin/up install

.PHONY: bin/up
bin/up:
	@mkdir -p bin && go build -o bin/up ./tests/services/up

##@ Check

.PHONY: test
test: ## everything: lint, vet, all tests with race detector and on real servers, the demo; prints the minutes of each room
	@.ci/minutes begin
	@trap '.ci/minutes end' EXIT; $(MAKE) --no-print-directory -s lint vet build bin/up; \
	bin/up -- $(MAKE) --no-print-directory -s -k test-rooms test-e2e test-faults-short; \
	.ci/minutes time demo $(MAKE) --no-print-directory -s demo DEMO_SECONDS=$(or $(DEMO_SECONDS),60)

# The exhaustive model is one search per goroutine: the race detector has nothing
# to see in it and makes it ten times as slow, so that it is not built with it.
MODEL = .ci/minutes packages go test -run '^TestModel$$' ./connector/kafka

.PHONY: test-unit
test-unit: ## tests of the rooms that need no server, with the race detector
	@.ci/minutes packages go test -race -timeout 15m $(ROOMS)
	@$(MODEL)

.PHONY: test-rooms
test-rooms: ## all tests of the rooms, with the race detector and on real servers
	@.ci/minutes packages go test -race -tags live -parallel 4 -timeout 15m $(ROOMS)
	@$(MODEL)

.PHONY: test-e2e
test-e2e: build ## tests from outside, on real servers that are started when none are running
	@MILLRACE_BINARY=$(CURDIR)/bin/millrace .ci/minutes packages go test -parallel 4 -timeout 20m $(OUTSIDE)

# Seeds of the long form, and how long each runs.
comma := ,
space := $(subst ,, )
LONG_SEEDS = $(subst $(space),$(comma),$(shell seq 1 40))

# Both end with the table of what was done and the line "N violations".
FAULTS = MILLRACE_BINARY=$(CURDIR)/bin/millrace FAULT_REPORT=$(CURDIR)/bin/faults.txt go test -count=1 -v
define after-faults
code=$$?; cat bin/faults.txt; exit $$code
endef

.PHONY: test-faults-short
test-faults-short: build ## exactly once under seeded faults: FAULT_SEEDS=1,2,3 x FAULT_SECONDS=60, odd seeds on MySQL, even on MariaDB
	@rm -f bin/faults.txt; $(FAULTS) -timeout 60m -skip '^(TestPlantedBugs|Test.*AtEachStep)$$' ./tests/faults || { $(after-faults); }; cat bin/faults.txt

.PHONY: test-faults
test-faults: build ## the long form: 40 seeds x 120 s, and the faults that have tests of their own
	@rm -f bin/faults.txt; export FAULT_SEEDS=$(or $(FAULT_SEEDS),$(LONG_SEEDS)) FAULT_SECONDS=$(or $(FAULT_SECONDS),120); \
	$(FAULTS) -timeout 240m -skip '^TestPlantedBugs$$' ./tests/faults || { $(after-faults); }; cat bin/faults.txt

.PHONY: test-planted
test-planted: build ## the checker must be able to fail: the same seeds against fifteen planted defects, and against none
	@mkdir -p bin && go build -tags planted -o bin/millrace-planted ./connector
	@rm -f bin/faults.txt; $(FAULTS) -timeout 120m -run '^TestSeeds$$' ./tests/faults || { $(after-faults); }
	@rm -f bin/faults.txt; MILLRACE_PLANTED_BINARY=$(CURDIR)/bin/millrace-planted $(FAULTS) -timeout 120m -run '^TestPlantedBugs$$' ./tests/faults || { $(after-faults); }; cat bin/faults.txt

.PHONY: lint
lint: $(GOLANGCI) ## golangci-lint, at the version that is pinned here
	@.ci/minutes time lint $(GOLANGCI) run --allow-serial-runners ./...

.PHONY: vet
vet: ## gofmt and go vet
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -d $$(git ls-files '*.go'); echo "fix: gofmt -w ."; exit 1; }
	@.ci/minutes time vet go vet ./...

.PHONY: race
race: ## the rooms' tests with the race detector, three times over
	go test -race -count=3 -timeout 30m $(ROOMS)

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZ_SECONDS
	@for package in $$(go list $(ROOMS)); do \
	  for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "$$package $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_SECONDS)s -fuzzminimizetime 10x $$package; \
	  done; done

.PHONY: image-proof
image-proof: ## as root: build docker/Dockerfile without an engine, and prove what comes out; installs buildah and debootstrap
	@docker/image-proof

.PHONY: sbom
sbom: build ## what bin/millrace is made of, C libraries included: bin/sbom.cdx.json (CycloneDX)
	@go run ./tests/sbom bin/millrace > bin/sbom.cdx.json && echo bin/sbom.cdx.json

# More flags of a benchmark, such as BENCH="-events 1000000 -logs MySQL"; bin/bench all -h lists them.
BENCH ?=
REVISION = -revision "$$(git describe --always --dirty)"

.PHONY: bench
bench: bin/bench ## everything, beside Debezium: about an hour and a half; writes page, plots and raw numbers into tests/bench/results
	@MILLRACE_BINARY=$(CURDIR)/bin/millrace bin/bench all -out tests/bench/results $(REVISION) $(BENCH)

.PHONY: bench-quick bench-side bench-fan bench-quiet bench-latency bench-pair bench-memory bench-idle
bench-quick: ## how fast the program catches up, alone: before a broker that keeps nothing
bench-side: ## Debezium and Millrace catch up with the same logs in turns, on Apache Kafka
bench-fan: ## one topic against thousands, few keys against a hundred thousand
bench-quiet: ## a log of which one row in a hundred is captured, beside a program that only reads
bench-latency: ## COMMIT to consumer on Apache Kafka at fixed rates, beside Debezium
bench-pair: ## two connectors in one process, one of which has a million events to catch up
bench-memory: ## the most that is taken for ten million events, for rows of 1 MiB, for one transaction of 5 GB
bench-idle: ## what is used while nothing happens
bench-quick bench-side bench-fan bench-quiet bench-latency bench-pair bench-memory bench-idle: bench-%: bin/bench
	@MILLRACE_BINARY=$(CURDIR)/bin/millrace bin/bench $* $(REVISION) $(BENCH)

.PHONY: bin/bench
bin/bench: build
	@go build -o bin/bench ./tests/bench

.PHONY: bench-rooms
bench-rooms: ## the rooms' benchmarks, with allocations
	go test -run '^$$' -bench . -benchmem $(ROOMS)

$(GOLANGCI):
	@echo "installing golangci-lint $(GOLANGCI_VERSION) into $(CACHE)/bin (some minutes, once)"
	@mkdir -p $(@D) && part=$$(mktemp -d) && GOBIN=$$part GOFLAGS=-mod=mod \
	  go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION) \
	  && mv $$part/golangci-lint $@ && rmdir $$part

.PHONY: clean
clean: ## remove what was built; the cache of servers stays
	rm -rf bin
