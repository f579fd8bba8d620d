#include "client.h"

#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

// The library itself is the one that confluent-kafka-go brings; its header is
// not to be found from here. These are the parts of rdkafka.h, version 2.15,
// that are used: all of them are public and have been there since version 1.0.
typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
typedef struct rd_kafka_topic_s rd_kafka_topic_t;
typedef struct rd_kafka_headers_s rd_kafka_headers_t;
typedef int rd_kafka_resp_err_t;
typedef struct rd_kafka_message_s {
	rd_kafka_resp_err_t err;
	rd_kafka_topic_t *rkt;
	int32_t partition;
	void *payload;
	size_t len;
	void *key;
	size_t key_len;
	int64_t offset;
	void *_private;
} rd_kafka_message_t;
enum { RD_KAFKA_PRODUCER = 0, RD_KAFKA_MSG_F_COPY = 2 };
enum { VT_END = 0, VT_RKT = 2, VT_PARTITION = 3, VT_VALUE = 4, VT_KEY = 5, VT_OPAQUE = 6, VT_MSGFLAGS = 7, VT_TIMESTAMP = 8, VT_HEADERS = 10 };
typedef rd_kafka_resp_err_t on_new_f(rd_kafka_t *, const rd_kafka_conf_t *, void *, char *, size_t);
typedef rd_kafka_resp_err_t on_acknowledgement_f(rd_kafka_t *, rd_kafka_message_t *, void *);
typedef rd_kafka_resp_err_t on_request_sent_f(rd_kafka_t *, int, const char *, int32_t, int16_t, int16_t, int32_t, size_t, void *);

rd_kafka_resp_err_t rd_kafka_conf_interceptor_add_on_new(rd_kafka_conf_t *, const char *, on_new_f *, void *);
int rd_kafka_conf_set(rd_kafka_conf_t *, const char *, const char *, char *, size_t);
rd_kafka_resp_err_t rd_kafka_interceptor_add_on_acknowledgement(rd_kafka_t *, const char *, on_acknowledgement_f *, void *);
rd_kafka_resp_err_t rd_kafka_interceptor_add_on_request_sent(rd_kafka_t *, const char *, on_request_sent_f *, void *);
const char *rd_kafka_err2str(rd_kafka_resp_err_t);
rd_kafka_topic_t *rd_kafka_topic_new(rd_kafka_t *, const char *, void *);
void rd_kafka_topic_destroy(rd_kafka_topic_t *);
rd_kafka_headers_t *rd_kafka_headers_new(size_t);
void rd_kafka_headers_destroy(rd_kafka_headers_t *);
rd_kafka_resp_err_t rd_kafka_header_add(rd_kafka_headers_t *, const char *, ssize_t, const void *, ssize_t);
rd_kafka_resp_err_t rd_kafka_producev(rd_kafka_t *, ...);
rd_kafka_resp_err_t rd_kafka_flush(rd_kafka_t *, int);

// expected says that this thread is about to make a producer that is to be ours,
// made is the one it made.
static _Thread_local int expected;
static _Thread_local mr_client *made;

// on_acknowledgement runs on a broker's thread for every record that was
// acknowledged or given up, before flush takes it for done.
static rd_kafka_resp_err_t on_acknowledgement(rd_kafka_t *rk, rd_kafka_message_t *m, void *opaque) {
	mr_client *c = opaque;
	mr_partition *p = m->_private;
	if (p == NULL)
		return 0; // produced past us
	int32_t err = m->err;
	if (err == 0 && m->offset < 0)
		err = MR_NO_OFFSET;
	if (err != 0) {
		int32_t none = 0;
		mr_partition *nowhere = NULL;
		// The partition first: whoever sees the error finds it.
		__atomic_compare_exchange_n(&c->failed, &nowhere, p, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
		__atomic_compare_exchange_n(&c->err, &none, err, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	} else {
		// A partition's reports may come from two threads when its leader moves.
		int64_t old = __atomic_load_n(&p->low, __ATOMIC_RELAXED);
		while (m->offset < old && !__atomic_compare_exchange_n(&p->low, &old, m->offset, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			;
		old = __atomic_load_n(&p->high, __ATOMIC_RELAXED);
		while (m->offset > old && !__atomic_compare_exchange_n(&p->high, &old, m->offset, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			;
		__atomic_fetch_add(&p->count, 1, __ATOMIC_RELAXED);
	}
	__atomic_fetch_add(&c->done, 1, __ATOMIC_RELEASE);
	return 0;
}

// END_TXN is the number of the request that ends a transaction (KIP-98).
enum { END_TXN = 26 };

// on_request_sent runs on a broker's thread for every request that was written
// to the socket to its last byte, before that thread reads the answer: when a
// commit returns, all that were sent for it are counted. Of one that was not
// written whole, a broker does nothing.
static rd_kafka_resp_err_t on_request_sent(rd_kafka_t *rk, int socket, const char *broker, int32_t id, int16_t key, int16_t version, int32_t correlation, size_t size, void *opaque) {
	mr_client *c = opaque;
	if (key == END_TXN)
		__atomic_fetch_add(&c->end_txns, 1, __ATOMIC_RELEASE);
	return 0;
}

static rd_kafka_resp_err_t on_new(rd_kafka_t *rk, const rd_kafka_conf_t *conf, void *opaque, char *text, size_t size) {
	mr_client *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return 0; // mr_made returns NULL
	c->rk = rk;
	if (rd_kafka_interceptor_add_on_acknowledgement(rk, "millrace", on_acknowledgement, c) != 0 ||
		rd_kafka_interceptor_add_on_request_sent(rk, "millrace", on_request_sent, c) != 0) {
		free(c);
		return 0; // mr_made returns NULL
	}
	made = c;
	return 0;
}

// Interceptors can only be added before a client begins to work, and
// confluent-kafka-go has no place for them between making the configuration and
// the client: the linker puts this function before the library's (--wrap in
// client.go). What it finds to report about single records, confluent-kafka-go
// need not be told.
rd_kafka_t *__real_rd_kafka_new(int type, rd_kafka_conf_t *conf, char *text, size_t size);

rd_kafka_t *__wrap_rd_kafka_new(int type, rd_kafka_conf_t *conf, char *text, size_t size) {
	if (type == RD_KAFKA_PRODUCER && expected) {
		rd_kafka_conf_set(conf, "delivery.report.only.error", "true", NULL, 0);
		rd_kafka_conf_interceptor_add_on_new(conf, "millrace", on_new, NULL);
	}
	return __real_rd_kafka_new(type, conf, text, size);
}

void mr_bound(void) {
#ifdef __GLIBC__
	if (!getenv("MALLOC_ARENA_MAX") && !getenv("GLIBC_TUNABLES"))
		mallopt(M_ARENA_MAX, 2);
#endif
}

void mr_expect(void) {
	expected = 1;
	made = NULL;
}

mr_client *mr_made(void) {
	expected = 0;
	return made;
}

void *mr_topic(mr_client *c, const char *name) { return rd_kafka_topic_new(c->rk, name, NULL); }

void mr_leave(void *topic) { rd_kafka_topic_destroy(topic); }

// size is how many bytes stand for a length, of which -1 is null.
static size_t size(int32_t length) { return length < 0 ? 0 : (size_t)length; }

// headers reads n headers that begin at p.
static rd_kafka_headers_t *headers(const uint8_t *p, uint32_t n) {
	rd_kafka_headers_t *all = rd_kafka_headers_new(n);
	for (uint32_t i = 0; i < n; i++) {
		mr_header h;
		memcpy(&h, p, sizeof(h));
		p += sizeof(h);
		const char *name = (const char *)p;
		p += h.name;
		rd_kafka_header_add(all, name, h.name, h.value < 0 ? NULL : p, (ssize_t)size(h.value));
		p += size(h.value);
	}
	return all;
}

size_t mr_produce(mr_client *c, const uint8_t *buffer, size_t end, int32_t *err) {
	size_t at = 0;
	*err = 0;
	while (at < end) {
		const mr_head *h = (const mr_head *)(buffer + at);
		mr_partition *partition = (mr_partition *)h->partition;
		const uint8_t *key = (const uint8_t *)(h + 1);
		const uint8_t *value = key + size(h->key);
		rd_kafka_headers_t *hs = NULL;
		if (h->headers > 0)
			hs = headers(value + size(h->value), h->headers);
		*err = rd_kafka_producev(c->rk, VT_RKT, partition->topic, VT_PARTITION, partition->id, VT_MSGFLAGS, (int)RD_KAFKA_MSG_F_COPY,
			VT_VALUE, h->value < 0 ? NULL : value, size(h->value),
			VT_KEY, h->key < 0 ? NULL : key, size(h->key),
			VT_TIMESTAMP, h->timestamp, VT_OPAQUE, partition, VT_HEADERS, hs, VT_END);
		if (*err != 0) {
			if (hs != NULL)
				rd_kafka_headers_destroy(hs);
			break;
		}
		at += h->size;
	}
	return at;
}

int mr_flush(mr_client *c, int timeout_ms) { return rd_kafka_flush(c->rk, timeout_ms) == 0; }

const char *mr_text(int32_t err) { return rd_kafka_err2str(err); }
