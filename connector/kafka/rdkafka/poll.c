#include "client.h"

#include <pthread.h>

typedef struct rd_kafka_queue_s rd_kafka_queue_t;
typedef struct rd_kafka_op_s rd_kafka_event_t;
void rd_kafka_queue_yield(rd_kafka_queue_t *queue);
rd_kafka_event_t *__real_rd_kafka_queue_poll(rd_kafka_queue_t *queue, int timeout_ms);

// SHORT and LONG are how long a poll for events lasts, in milliseconds.
enum { SHORT = 100, LONG = 5000 };

// A poll is one that lasts long. It stands on the stack of the one who waits.
typedef struct poll {
	rd_kafka_queue_t *queue;
	struct poll *next, **at; // at is what points here
} poll;

// lock guards polls, those under way, and closing, how many clients are being
// closed.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static poll *polls;
static int closing;

void mr_closing(int more) {
	pthread_mutex_lock(&lock);
	closing += more;
	// A queue remembers that it was to yield: no poll that is about to wait, and
	// stands in the list, misses it.
	for (poll *p = polls; p != NULL; p = p->next)
		rd_kafka_queue_yield(p->queue);
	pthread_mutex_unlock(&lock);
}

// confluent-kafka-go asks two queues of each client for events, for SHORT
// milliseconds at a time, and asks again when there were none. Each time wakes
// Go's scheduler, which then looks around for a while: together that was most of
// what a program with nothing to do did. So those polls last longer, except while
// a client is being closed, which waits for its polls to end. The linker puts
// this function before the library's (--wrap in client.go).
rd_kafka_event_t *__wrap_rd_kafka_queue_poll(rd_kafka_queue_t *queue, int timeout_ms) {
	if (timeout_ms != SHORT)
		return __real_rd_kafka_queue_poll(queue, timeout_ms);
	poll p = {queue, NULL, &polls};
	pthread_mutex_lock(&lock);
	if (closing == 0)
		timeout_ms = LONG;
	p.next = polls;
	if (p.next != NULL)
		p.next->at = &p.next;
	polls = &p;
	pthread_mutex_unlock(&lock);

	rd_kafka_event_t *event = __real_rd_kafka_queue_poll(queue, timeout_ms);

	pthread_mutex_lock(&lock);
	*p.at = p.next;
	if (p.next != NULL)
		p.next->at = p.at;
	pthread_mutex_unlock(&lock);
	return event;
}
