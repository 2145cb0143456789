// A platform as a library operating system would write it: a table of queues, a mutex and a
// condition variable each. It counts, so that a test can say that its threads have slept in it.
#ifndef CALLBACKS_H
#define CALLBACKS_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "pagelock.h"

enum { QUEUES = 16 };

struct queues {
    struct {
        pthread_mutex_t mutex;
        pthread_cond_t cond;
    } queue[QUEUES];
    atomic_uint sleeps, wakes, tells;
};

static inline unsigned queue_of(const uint32_t *word) { return (uintptr_t)word / 4 % QUEUES; }

static int32_t queue_sleep(
    struct queues *q, const uint32_t *word, uint32_t expected, const struct timespec *until) {
    unsigned i = queue_of(word);
    int error = 0;
    pthread_mutex_lock(&q->queue[i].mutex);
    if (__atomic_load_n(word, __ATOMIC_RELAXED) == expected) {
        atomic_fetch_add(&q->sleeps, 1);
        error = until ? pthread_cond_timedwait(&q->queue[i].cond, &q->queue[i].mutex, until)
                      : pthread_cond_wait(&q->queue[i].cond, &q->queue[i].mutex);
    }
    pthread_mutex_unlock(&q->queue[i].mutex);
    // Several words share a queue, so it cannot tell which sleeper a wake was meant for.
    return error == ETIMEDOUT ? PAGELOCK_SLEPT_TIMED_OUT : PAGELOCK_SLEPT_UNKNOWN;
}

static int32_t queue_wait(void *q, const uint32_t *word, uint32_t expected) {
    return queue_sleep(q, word, expected, NULL);
}

static int32_t queue_wait_until(void *q, const uint32_t *word, uint32_t expected, uint64_t at) {
    struct timespec until = {.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000};
    return queue_sleep(q, word, expected, &until);
}

static void queue_wake(void *context, const uint32_t *word) {
    struct queues *q = context;
    unsigned i = queue_of(word);
    // With the mutex: a thread that has compared the word and is about to sleep has it.
    pthread_mutex_lock(&q->queue[i].mutex);
    atomic_fetch_add(&q->wakes, 1);
    pthread_cond_broadcast(&q->queue[i].cond);
    pthread_mutex_unlock(&q->queue[i].mutex);
}

static uint64_t queue_now(void *q) {
    struct timespec t;
    (void)q;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void queue_tell(void *context, struct pagelock_page *page) {
    struct queues *q = context;
    (void)page;
    atomic_fetch_add(&q->tells, 1);
}

static struct queues queues;
static const struct pagelock_platform callbacks = {
    .size = sizeof(struct pagelock_platform),
    .context = &queues,
    .wait = queue_wait,
    .wake_one = queue_wake,
    .wake_all = queue_wake,
    .now = queue_now,
    .wait_until = queue_wait_until,
    .tell = queue_tell,
};

static inline void queues_begin(void) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    for (int i = 0; i < QUEUES; i++) {
        pthread_mutex_init(&queues.queue[i].mutex, NULL);
        pthread_cond_init(&queues.queue[i].cond, &attr);
    }
}

#endif
