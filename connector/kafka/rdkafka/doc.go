// Package rdkafka is the short way into librdkafka, beside the one through
// confluent-kafka-go: it hands over many records in one call, it counts
// acknowledgements within librdkafka instead of having each of them brought to a
// goroutine, it counts the requests that end transactions, and it lets clients with nothing to do sleep. Everything else about a producer stays with confluent-kafka-go,
// which makes it: configuration, transactions, errors, statistics.
//
// It rests on librdkafka's public interface only (rdkafka.h: rd_kafka_producev,
// rd_kafka_flush, interceptors), not on anything inside of confluent-kafka-go.
// Acknowledgements are seen by an interceptor, which librdkafka calls for every
// record before the record stops being one that a flush waits for; requests by
// another, which it calls before it reads their answer. They are added when a producer is made, by a function that the linker
// puts in front of rd_kafka_new; in the same way polls for events last longer.
package rdkafka
