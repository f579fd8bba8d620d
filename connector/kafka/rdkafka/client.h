// What this package asks of librdkafka, in C: hand many records over in one
// call, and count their acknowledgements where they arrive.

#ifndef MILLRACE_RDKAFKA_CLIENT_H
#define MILLRACE_RDKAFKA_CLIENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// mr_partition is one partition. low, high and count are of the offsets that were
// acknowledged since they were last reset: low is INT64_MAX and high -1 before
// the first. Broker threads write them.
typedef struct mr_partition {
	void *topic; // rd_kafka_topic_t *
	int32_t id;
	int64_t low, high, count;
} mr_partition;

// mr_client is one producer.
typedef struct mr_client {
	void *rk; // rd_kafka_t *
	// end_txns counts the EndTxn requests that were sent whole.
	uint64_t end_txns;
	// done counts the records that were acknowledged or given up; err is the
	// first error among the latter, or 0, and failed the partition it is of.
	uint64_t done;
	int32_t err;
	mr_partition *failed;
} mr_client;

// MR_NO_OFFSET is an acknowledgement that does not say where the record stands:
// the broker had seen it before, too long ago to remember.
enum { MR_NO_OFFSET = 1 << 20 };

// mr_head begins a record in the buffer of mr_produce. Behind it stand the key
// and the value, the headers, and padding to 8 bytes. A length of -1 means null.
typedef struct mr_head {
	uintptr_t partition; // mr_partition *
	int64_t timestamp; // milliseconds, 0 for now
	int32_t key, value; // lengths
	uint32_t headers;   // how many
	uint32_t size;      // of all of it
} mr_head;

// mr_header begins a header: its name and its value stand behind it.
typedef struct mr_header {
	int32_t name, value; // lengths
} mr_header;

// mr_bound lets the C library use few arenas, unless the environment says how
// many.
void mr_bound(void);

// mr_closing says that one client more, or with -1 one less, is being closed.
void mr_closing(int more);

// mr_expect says that the next producer which this thread makes is to be ours.
// mr_made ends that and returns it, or NULL.
void mr_expect(void);
mr_client *mr_made(void);

// mr_topic looks a topic up; mr_leave gives it back.
void *mr_topic(mr_client *c, const char *name);
void mr_leave(void *topic);

// mr_produce hands over records and returns how many bytes of the buffer they
// took. It stops at the first that is refused; err then says why, else it is 0.
size_t mr_produce(mr_client *c, const uint8_t *buffer, size_t end, int32_t *err);

// mr_flush makes everything be sent at once and waits for all reports, up to a
// timeout. It returns whether all have come.
int mr_flush(mr_client *c, int timeout_ms);

const char *mr_text(int32_t err);

#endif
