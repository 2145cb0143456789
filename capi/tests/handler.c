// The README's fault handler in C, 8 threads of it against a thread that evicts. Every page's
// number lies in one of two tiers, and where, its entry says. At the end every number is the sum of
// what was added, wherever it has been. With -DCALLBACKS on a platform of functions, which must
// have been slept in. With -DCONTROL the evictor ignores what a freeze says, and must be found out.

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "pagelock.h"
#ifdef CALLBACKS
#include "callbacks.h"
#endif
#include "check.h"

enum { PAGES = 32, THREADS = 8, TURNS = 10000, EVICTIONS = 2000, GONE = 0x5ca1ab1e };
enum leaf { COLD, HOT };
enum failed { NOT = 0, LOST, OUT_OF_TIME };

static struct pagelock_page pages[PAGES];
static struct entry {
    pthread_mutex_t ptl;
    enum leaf leaf;
} entries[PAGES];
static unsigned tiers[2][PAGES];
static atomic_uint added[PAGES], looks, returns, evictions, pinned;
static atomic_bool over;

static void unlock(void *ptl) { pthread_mutex_unlock(ptl); }

static void move_page(int i, enum leaf to) {
    tiers[to][i] = tiers[!to][i];
    tiers[!to][i] = GONE; // an addition to bytes that are gone is lost
}

// Returns once the page is hot, with its entry locked; or says why it will not be.
static enum failed fault(int i, const struct pagelock_limits *limits) {
    struct pagelock_page *page = &pages[i];
    struct entry *entry = &entries[i];
    for (;;) {
        struct pagelock_guard guard;
        struct pagelock_frozen frozen;
        pthread_mutex_lock(&entry->ptl);
        atomic_fetch_add(&looks, 1);
        if (entry->leaf == HOT) return NOT;
        if (pagelock_try_lock(page, &guard) != PAGELOCK_ERROR_OK) {
            switch (pagelock_wait_unlocked(page, unlock, &entry->ptl, limits)) { // lets go, sleeps
            case PAGELOCK_WAKE_RELEASED:
            case PAGELOCK_WAKE_NOT_LOCKED: continue;
            case PAGELOCK_WAKE_POISONED: return LOST;
            default: return OUT_OF_TIME;
            }
        }
        pthread_mutex_unlock(&entry->ptl);
        struct pagelock_migration migration = pagelock_begin_migration(guard);
        switch (pagelock_freeze_unpinned(migration, PAGELOCK_ANY_REFS, limits, &frozen)) {
        case PAGELOCK_ERROR_OK:
            usleep(20); // the others come, and find it locked
            // Others may have brought it back before this thread had the page.
            pthread_mutex_lock(&entry->ptl);
            if (entry->leaf == COLD) {
                move_page(i, HOT);
                entry->leaf = HOT;
                atomic_fetch_add(&returns, 1);
            }
            pthread_mutex_unlock(&entry->ptl);
            pagelock_commit(frozen); // unlocked, and all waiters told
            break;
        case PAGELOCK_ERROR_POISONED: pagelock_abort(migration); return LOST;
        default: pagelock_abort(migration); return OUT_OF_TIME;
        }
    }
}

static void *faulter(void *number) {
    uint32_t seed = 88172645u + (uint32_t)(uintptr_t)number;
    for (int turn = 0; turn < TURNS || atomic_load(&evictions) < EVICTIONS; turn++) {
        int i = next_number(&seed) % PAGES;
        CHECK(fault(i, NULL) == NOT);
        tiers[HOT][i] += 1;
        if (next_number(&seed) % 16 == 0 && pagelock_pin(&pages[i]) == PAGELOCK_ERROR_OK) {
            // Pinned, it stays where it is, though its entry is let go of.
            pthread_mutex_unlock(&entries[i].ptl);
            usleep(20);
            pthread_mutex_lock(&entries[i].ptl);
            CHECK(entries[i].leaf == HOT);
            tiers[HOT][i] += 1;
            atomic_fetch_add(&added[i], 1);
            atomic_fetch_add(&pinned, 1);
            CHECK(!pagelock_unpin(&pages[i]));
        }
        pthread_mutex_unlock(&entries[i].ptl);
        atomic_fetch_add(&added[i], 1);
    }
    return NULL;
}

static void *evictor(void *nothing) {
    uint32_t seed = 2463534242u;
    while (!atomic_load(&over)) {
        int i = next_number(&seed) % PAGES;
        struct pagelock_frozen frozen;
        struct pagelock_migration migration = pagelock_begin_migration(pagelock_lock(&pages[i]));
        if (pagelock_freeze(migration, 1, &frozen) == PAGELOCK_ERROR_OK) {
            pthread_mutex_lock(&entries[i].ptl);
            if (entries[i].leaf == HOT) {
                entries[i].leaf = COLD;
                move_page(i, COLD);
                atomic_fetch_add(&evictions, 1);
            }
            pthread_mutex_unlock(&entries[i].ptl);
            pagelock_commit(frozen);
        } else {
#ifdef CONTROL
            pthread_mutex_lock(&entries[i].ptl);
            entries[i].leaf = COLD;
            pthread_mutex_unlock(&entries[i].ptl);
#endif
            pagelock_abort(migration);
        }
    }
    return nothing;
}

static void storm(void) {
    pthread_t threads[THREADS], out;
    CHECK(pthread_create(&out, NULL, evictor, NULL) == 0);
    for (uintptr_t t = 0; t < THREADS; t++)
        CHECK(pthread_create(&threads[t], NULL, faulter, (void *)t) == 0);
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    atomic_store(&over, true);
    pthread_join(out, NULL);
    unsigned sum = 0;
    for (int i = 0; i < PAGES; i++) {
        CHECK(tiers[entries[i].leaf][i] == atomic_load(&added[i]));
        CHECK(!pagelock_is_locked(&pages[i]) && !pagelock_is_frozen(&pages[i]));
        CHECK(pagelock_refs(&pages[i]) == 1 && pagelock_pins(&pages[i]) == 0);
        CHECK(pagelock_sleepers(&pages[i]) == 0);
        sum += atomic_load(&added[i]);
    }
    printf("%u additions, %u evictions, %u returns, %u pins, %u looks at entries\n", sum, evictions,
        returns, pinned, looks);
    CHECK(evictions >= EVICTIONS && returns > 0 && pinned > 0);
}

// What the handler says where it cannot have the page; nothing is left behind.
static void refusals(void) {
    struct pagelock_cancel cancel = {0};
    struct pagelock_limits late = {.deadline = 1}, soon = {.deadline = pagelock_now() + 3000000};
    struct pagelock_limits thrown = {.cancel = &cancel};
    pagelock_cancel_throw(&cancel);
    if (entries[0].leaf == HOT) move_page(0, COLD);
    entries[0].leaf = COLD;
    OK(pagelock_pin(&pages[0])); // a pinned page is not brought back
    CHECK(fault(0, &late) == OUT_OF_TIME && fault(0, &soon) == OUT_OF_TIME &&
        fault(0, &thrown) == OUT_OF_TIME);
    CHECK(!pagelock_unpin(&pages[0]));
    struct pagelock_guard guard = pagelock_lock(&pages[0]);
    soon.deadline = pagelock_now() + 3000000;
    CHECK(fault(0, &late) == OUT_OF_TIME && fault(0, &soon) == OUT_OF_TIME &&
        fault(0, &thrown) == OUT_OF_TIME);
    CHECK(pagelock_poison(guard)); // they had waited
    CHECK(fault(0, NULL) == LOST);
    CHECK(!pagelock_is_locked(&pages[0]) && !pagelock_is_migrating(&pages[0]));
}

int main(void) {
    watchdog();
#ifdef CALLBACKS
    queues_begin();
    OK(pagelock_set_platform(&callbacks));
#endif
    for (int i = 0; i < PAGES; i++) {
        pthread_mutex_init(&entries[i].ptl, NULL);
        tiers[HOT][i] = GONE;
        OK(pagelock_activate(&pages[i], 1));
    }
    storm();
    refusals();
#ifdef CALLBACKS
    printf(
        "on functions: %u sleeps, %u wakes, %u tells\n", queues.sleeps, queues.wakes, queues.tells);
    CHECK(queues.sleeps > 0 && queues.wakes > 0 && queues.tells > 0);
#endif
    return 0;
}
