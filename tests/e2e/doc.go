// Package e2e drives the program from outside, on real servers: SQL in, Kafka
// out, read with another client library than the program's.
package e2e
