// What the two sides of tests/peers.c do; the same in examples/peer.rs.
#ifndef PEERS_H
#define PEERS_H

#include <pthread.h>
#include <stdatomic.h>

#include "pagelock.h"
#include "check.h"

enum { PAGES = 16, READY = 16, WAITS_OF_C, WAITS_OF_RUST, ALL_PAGES, THREADS = 2 };

// Numbers of a page, in words that all see. The locks of the first pages guard theirs.
static inline _Atomic uint32_t *word(struct pagelock_segment *segment, uint32_t page) {
    uint32_t *at = pagelock_segment_page_word(segment, page);
    CHECK(at != NULL);
    return (_Atomic uint32_t *)at;
}

// How often a thread was about to add one to a page's number, and how often it did.
static inline _Atomic uint32_t *begun(struct pagelock_segment *s) {
    return (_Atomic uint32_t *)pagelock_segment_word(s, 0);
}
static inline _Atomic uint32_t *ended(struct pagelock_segment *s) {
    return (_Atomic uint32_t *)pagelock_segment_word(s, 1);
}

// Two steps, which no other thread may split: an atomic addition would hide that one does.
static inline void add(struct pagelock_segment *segment, uint32_t page) {
    _Atomic uint32_t *number = word(segment, page);
    atomic_fetch_add(begun(segment), 1);
    uint32_t now = atomic_load_explicit(number, memory_order_relaxed);
    atomic_store_explicit(number, now + 1, memory_order_relaxed);
    atomic_fetch_add(ended(segment), 1);
}

// For a control: this side adds without the lock, and takes its time.
static bool careless;

static inline void turn(
    struct pagelock_segment *segment, struct pagelock_seat *seat, uint32_t page, uint32_t kind) {
    struct pagelock_seat_ref reference;
    struct pagelock_seat_pin pin;
    struct pagelock_seat_guard guard;
    if (kind % 8 == 0 && pagelock_seat_try_pin(seat, page, &pin) == PAGELOCK_ERROR_OK) {
        if (kind % 64 == 0) usleep(10); // some die with it
        CHECK(!pagelock_seat_unpin(pin));
    }
    if (kind % 8 == 1 && pagelock_seat_try_get(seat, page, &reference) == PAGELOCK_ERROR_OK) {
        if (kind % 64 == 1) usleep(10);
        CHECK(!pagelock_seat_put(reference));
    }
    if (kind % 8 == 2 && pagelock_is_locked(pagelock_segment_page(segment, page)) &&
        pagelock_seat_wait_unlocked(seat, page, NULL, NULL, NULL) == PAGELOCK_WAKE_RELEASED)
        atomic_fetch_add(word(segment, WAITS_OF_C), 1);
    if (careless) {
        atomic_fetch_add(begun(segment), 1);
        uint32_t now = atomic_load(word(segment, page));
        if (kind % 64 == 4) usleep(10);
        atomic_store(word(segment, page), now + 1);
        atomic_fetch_add(ended(segment), 1);
        return;
    }
    OK(pagelock_seat_lock(seat, page, &guard));
    if (kind % 64 == 4) usleep(10); // the others come, and have to sleep
    if (kind % 8 == 3) {
        struct pagelock_seat_frozen frozen;
        struct pagelock_seat_migration migration = pagelock_seat_begin_migration(guard);
        if (pagelock_seat_freeze(migration, PAGELOCK_ANY_REFS, &frozen) == PAGELOCK_ERROR_OK) {
            add(segment, page);
            pagelock_seat_commit(frozen);
        } else { // it is pinned
            guard = pagelock_seat_end_migration(migration);
            add(segment, page);
            pagelock_seat_unlock(guard);
        }
    } else {
        add(segment, page);
        pagelock_seat_unlock(guard);
    }
}

struct counting {
    struct pagelock_segment *segment;
    uint32_t turns, seed; // 0 turns: without end
};

static inline void *count_in_a_seat(void *arg) {
    struct counting *of = arg;
    struct pagelock_seat seat;
    OK(pagelock_seat_take(of->segment, &seat));
    for (uint32_t t = 0; of->turns == 0 || t < of->turns; t++) {
        uint32_t page = next_number(&of->seed) % PAGES;
        turn(of->segment, &seat, page, next_number(&of->seed));
    }
    CHECK(pagelock_seat_room(&seat) == PAGELOCK_SEAT_NOTES);
    pagelock_seat_leave(&seat);
    return NULL;
}

static inline void count(struct pagelock_segment *segment, uint32_t turns, uint32_t seed) {
    pthread_t threads[THREADS];
    struct counting of[THREADS];
    for (uint32_t t = 0; t < THREADS; t++) {
        of[t] = (struct counting){segment, turns, seed + t * 7919 + 1};
        CHECK(pthread_create(&threads[t], NULL, count_in_a_seat, &of[t]) == 0);
    }
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
}

// Has something of every kind, says so, and waits to be killed.
static inline void hold(struct pagelock_segment *segment) {
    struct pagelock_seat seat;
    struct pagelock_seat_guard guard;
    struct pagelock_seat_frozen frozen;
    struct pagelock_seat_ref reference;
    struct pagelock_seat_pin pin;
    OK(pagelock_seat_take(segment, &seat));
    OK(pagelock_seat_lock(&seat, 0, &guard));
    pagelock_seat_set_tag(guard, 70);
    OK(pagelock_seat_lock(&seat, 1, &guard));
    pagelock_seat_set_tag(guard, 71);
    struct pagelock_seat_migration migration = pagelock_seat_begin_migration(guard);
    (void)migration;
    OK(pagelock_seat_lock(&seat, 2, &guard));
    pagelock_seat_set_tag(guard, 72);
    OK(pagelock_seat_freeze(pagelock_seat_begin_migration(guard), 1, &frozen));
    OK(pagelock_seat_try_get(&seat, 3, &reference));
    OK(pagelock_seat_try_pin(&seat, 4, &pin));
    CHECK(pagelock_seat_room(&seat) == PAGELOCK_SEAT_NOTES - 5);
    atomic_fetch_add(word(segment, READY), 1);
    for (;;) pause();
}

// What was locked stays as it is, the contents of what migrated are lost, and what was frozen has
// arrived.
static inline int32_t decide(void *arg, const struct pagelock_left *left) {
    *(unsigned *)arg += 1;
    CHECK(left->when == PAGELOCK_WHEN_WORKING && left->tag == 70 + left->page);
    switch (left->page) {
    case 0: CHECK(left->stage == PAGELOCK_STAGE_LOCKED); return PAGELOCK_DECISION_RELEASE;
    case 1: CHECK(left->stage == PAGELOCK_STAGE_MIGRATING); return PAGELOCK_DECISION_POISON;
    case 2: CHECK(left->stage == PAGELOCK_STAGE_FROZEN); return PAGELOCK_DECISION_COMMIT;
    default: CHECK(!"another page"); return 0;
    }
}

#endif
