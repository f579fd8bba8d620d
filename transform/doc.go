// Package transform turns rows into records: it routes a row of an outbox table
// to its topic, makes key, value and headers of it, and appends their bytes to
// a batch.
//
// A plan is compiled once per shape of a table; after that a row costs no
// allocation. The same segment always gives the same bytes: there is no clock,
// no random number, no map order and no goroutine here. What is needed from
// outside comes in through [Deps].
package transform
