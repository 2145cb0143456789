// Headers, event slots and data in one memfd, mapped here and by a program in Rust that uses the
// crate itself (examples/partner.rs), at another address. Both add to numbers under the pages'
// locks, wait for each other's releases, and migrate; at the end the numbers are right, and the
// other takes over what one is killed with. With a second argument this side sleeps as if it were
// alone, which the test must notice: it sleeps on.

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "pagelock.h"
#include "check.h"

enum { PAGES = 16, EVENTS = 16, TURNS = 20000 };

// The same in examples/partner.rs.
struct segment {
    struct pagelock_page pages[PAGES];
    struct pagelock_event events[EVENTS];
    uint64_t numbers[PAGES];
    atomic_uint waits[2],
        order; // of C, of Rust; 1: Rust has begun, 2: C has ended, 3: Rust has what it dies with
    uint32_t ptl; // a page-table lock that both know: 0, or 1 if it is taken
};

static struct segment *shared;

static void ptl_lock(void) {
    while (__atomic_exchange_n(&shared->ptl, 1, __ATOMIC_ACQUIRE)) sched_yield();
}
static void ptl_unlock(void *ptl) { __atomic_store_n((uint32_t *)ptl, 0, __ATOMIC_RELEASE); }

// One turn: the page's number under its lock, having waited if it is a cold one.
static void turn(int i, uint32_t number) {
    struct pagelock_guard guard;
    if (number % 4 == 0) {
        ptl_lock();
        if (pagelock_is_locked(&shared->pages[i])) {
            if (pagelock_wait_unlocked(&shared->pages[i], ptl_unlock, &shared->ptl, NULL) ==
                PAGELOCK_WAKE_RELEASED)
                atomic_fetch_add(&shared->waits[0], 1);
        } else {
            ptl_unlock(&shared->ptl);
        }
    }
    guard = pagelock_lock(&shared->pages[i]);
    uint64_t now = shared->numbers[i];
    if (number % 64 == 1) usleep(10); // the other comes, and has to sleep
    if (number % 8 == 1) {
        struct pagelock_frozen frozen;
        struct pagelock_migration migration = pagelock_begin_migration(guard);
        OK(pagelock_freeze(migration, 1, &frozen));
        shared->numbers[i] = now + 1;
        pagelock_commit(frozen);
    } else {
        shared->numbers[i] = now + 1;
        pagelock_unlock(guard);
    }
}

int main(int argc, char **argv) {
    watchdog();
    CHECK(argc == 2 || argc == 3);
    int fd = memfd_create("pages", 0);
    CHECK(fd >= 0 && ftruncate(fd, sizeof *shared) == 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(shared != MAP_FAILED);
    static struct pagelock_platform platform = {.size = sizeof platform, .n_events = EVENTS};
    platform.events = shared->events;
    platform.first_page = shared->pages;
    if (argc == 2)
        OK(pagelock_set_platform(&platform));
    else
        alarm(3);
    for (int i = 0; i < PAGES; i++) OK(pagelock_activate(&shared->pages[i], 1));

    pid_t partner = fork();
    if (partner == 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", fd);
        execl(argv[1], argv[1], number, (char *)NULL);
        _exit(127);
    }
    while (atomic_load(&shared->order) != 1) usleep(100);
    uint32_t seed = 88172645u;
    for (int t = 0; t < TURNS; t++) turn(next_number(&seed) % PAGES, next_number(&seed));
    atomic_store(&shared->order, 2);
    while (atomic_load(&shared->order) != 3) usleep(100);
    uint64_t sum = 0;
    for (int i = 0; i < PAGES; i++) sum += shared->numbers[i];
    CHECK(sum == 2 * TURNS);
    CHECK(pagelock_is_locked(&shared->pages[0]) && pagelock_is_frozen(&shared->pages[1]));
    struct pagelock_guard guard;
    struct pagelock_limits soon = {.deadline = pagelock_now() + 1000000};
    CHECK(pagelock_lock_within(&shared->pages[0], &soon, &guard) == PAGELOCK_ERROR_TIMED_OUT);
    CHECK(kill(partner, SIGKILL) == 0 && waitpid(partner, NULL, 0) == partner);
    CHECK(pagelock_take_over(&shared->pages[0]) == PAGELOCK_STAGE_LOCKED);
    pagelock_unlock((struct pagelock_guard){&shared->pages[0]});
    CHECK(pagelock_take_over(&shared->pages[1]) == PAGELOCK_STAGE_FROZEN);
    pagelock_abort(pagelock_thaw((struct pagelock_frozen){&shared->pages[1]}));
    for (int i = 0; i < PAGES; i++) {
        CHECK(!pagelock_is_locked(&shared->pages[i]) && !pagelock_is_frozen(&shared->pages[i]));
        CHECK(pagelock_refs(&shared->pages[i]) == 1 && pagelock_pins(&shared->pages[i]) == 0);
    }
    unsigned here = atomic_load(&shared->waits[0]), there = atomic_load(&shared->waits[1]);
    printf("C and Rust: %u turns, %u waits here, %u there, two stages of the dead taken over\n",
        2 * TURNS, here, there);
    CHECK(here > 0 && there > 0);
    return 0;
}
