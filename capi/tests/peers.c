// A segment that a program in C and a program in Rust share (examples/peer.rs, by the crate
// itself). First both lock, pin, refer, wait, migrate and count, and the numbers add up. Then each
// is killed with SIGKILL while it has pages at every stage, and the other ends what it had begun;
// while it is only stopped, nothing is taken from it. At last each is killed again and again at
// random times. With a second argument, `alone`, no process recovers; with `careless` this side
// does not lock. Both must be found out.

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "peers.h"

enum { TURNS = 20000, KILLS = 60 };

static const char *rust;
static struct pagelock_segment segment;

// A process of this program, or of the other, that finds the segment by its descriptor.
static pid_t start(const char *program, const char *role, uint32_t a, uint32_t b) {
    char fd[16], first[16], second[16];
    // Not the segment's own, which closes on exec.
    int passed = dup(pagelock_segment_fd(&segment));
    CHECK(passed >= 0);
    snprintf(fd, sizeof fd, "%d", passed);
    snprintf(first, sizeof first, "%u", a);
    snprintf(second, sizeof second, "%u", b);
    pid_t child = fork();
    if (child == 0) {
        execl(program, program, role, fd, first, second, (char *)NULL);
        _exit(127);
    }
    CHECK(child > 0 && close(passed) == 0);
    return child;
}

static void finish(pid_t child) {
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void kill_and_reap(pid_t child) {
    int status;
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void await_word(uint32_t page, uint32_t value) {
    while (atomic_load(word(&segment, page)) != value) usleep(100);
}

// A segment whose first pages are live, each with one reference that no seat has.
static void begin(void) {
    struct pagelock_seat seat;
    OK(pagelock_segment_create("peers", ALL_PAGES, ALL_PAGES, 8, &segment));
    OK(pagelock_seat_take(&segment, &seat));
    for (uint32_t page = 0; page < PAGES; page++) {
        struct pagelock_seat_ref reference;
        OK(pagelock_seat_activate(&seat, page, &reference));
        pagelock_seat_leave_ref(reference);
    }
    pagelock_seat_leave(&seat);
}

// Nothing is stuck, and no count is off.
static void check_idle(uint32_t page) {
    const struct pagelock_page *at = pagelock_segment_page(&segment, page);
    CHECK(!pagelock_is_locked(at) && !pagelock_is_migrating(at) && !pagelock_is_frozen(at));
    CHECK(pagelock_refs(at) == 1 && pagelock_pins(at) == 0);
}

static uint32_t sum(void) {
    uint32_t sum = 0;
    for (uint32_t page = 0; page < PAGES; page++) {
        check_idle(page);
        sum += atomic_load(word(&segment, page));
    }
    return sum;
}

static void both_count(void) {
    begin();
    pid_t partner = start(rust, "count", TURNS, 1);
    await_word(READY, 1);
    count(&segment, TURNS, 2);
    finish(partner);
    uint32_t here = atomic_load(word(&segment, WAITS_OF_C)),
             there = atomic_load(word(&segment, WAITS_OF_RUST));
    printf("C and Rust in seats: %u turns each in %d threads, sum %u, %u waits here, %u there\n",
        TURNS * THREADS, THREADS, sum(), here, there);
    CHECK(sum() == 2 * THREADS * TURNS && atomic_load(ended(&segment)) == sum());
    CHECK(here > 0 && there > 0);
    pagelock_segment_close(&segment);
}

static void *wait_for_move(void *woken) {
    struct pagelock_seat seat;
    OK(pagelock_seat_take(&segment, &seat));
    *(pagelock_wake *)woken = pagelock_seat_wait_migration(&seat, 2, NULL, NULL, NULL);
    pagelock_seat_leave(&seat);
    return NULL;
}

static void one_dies(const char *victim, bool by_rust, bool recovers) {
    struct pagelock_seat seat;
    struct pagelock_seat_guard guard;
    struct pagelock_recovered what;
    unsigned asked = 0;
    begin();
    pid_t dying = start(victim, "hold", 0, 0);
    await_word(READY, 1);
    pthread_t waiter;
    pagelock_wake woken = -1;
    CHECK(pthread_create(&waiter, NULL, wait_for_move, &woken) == 0);
    OK(pagelock_seat_take(&segment, &seat));
    // It lives, and while it is stopped too.
    CHECK(kill(dying, SIGSTOP) == 0 && waitpid(dying, NULL, WUNTRACED) == dying);
    OK(pagelock_segment_recover(&segment, decide, &asked, &what));
    CHECK(asked == 0 && what.seats == 0 && what.pages == 0);
    struct pagelock_limits soon = {.deadline = pagelock_now() + 5000000};
    CHECK(pagelock_seat_lock_within(&seat, 0, &soon, &guard) == PAGELOCK_ERROR_TIMED_OUT);
    kill_and_reap(dying);
    if (recovers && by_rust) {
        finish(start(rust, "recover", 1, 0));
    } else if (recovers) {
        OK(pagelock_segment_recover(&segment, decide, &asked, &what));
        CHECK(asked == 3 && what.seats == 1 && what.pages == 3 && what.refs == 1 && what.pins == 1);
        CHECK(what.freed == 0 && what.nonsense == 0 && what.undecided == 0 && what.retold >= 3);
    }
    for (uint32_t page = 0; page < PAGES; page++) check_idle(page);
    CHECK(pagelock_is_poisoned(pagelock_segment_page(&segment, 1)) &&
        !pagelock_is_poisoned(pagelock_segment_page(&segment, 2)));
    pthread_join(waiter, NULL);
    CHECK(woken == PAGELOCK_WAKE_RELEASED || woken == PAGELOCK_WAKE_NOT_LOCKED);
    OK(pagelock_seat_lock(&seat, 0, &guard));
    pagelock_seat_unlock(guard);
    pagelock_seat_leave(&seat);
    pagelock_segment_close(&segment);
}

// What was killed at whatever step: nothing is known of it beforehand, but nothing may stay.
static int32_t any(void *arg, const struct pagelock_left *left) {
    *(unsigned *)arg += 1;
    return left->stage == PAGELOCK_STAGE_FROZEN ? PAGELOCK_DECISION_COMMIT
                                                : PAGELOCK_DECISION_RELEASE;
}

static void many_die(const char *self) {
    uint32_t seed = 2463534242u;
    unsigned pages = 0, asked = 0;
    struct pagelock_recovered sum_of = {0};
    begin();
    for (uint32_t round = 0; round < KILLS; round++) {
        uint32_t before = atomic_load(ended(&segment));
        // Each kind of victim with each kind of survivor.
        pid_t victim = start(round % 2 ? self : rust, "count", 0, round * 31 + 3);
        while (atomic_load(ended(&segment)) == before) usleep(50);
        usleep(next_number(&seed) % 3000);
        kill_and_reap(victim);
        if (round / 2 % 2) {
            finish(start(rust, "recover", 0, 0));
        } else {
            struct pagelock_recovered what;
            OK(pagelock_segment_recover(&segment, any, &asked, &what));
            CHECK(what.nonsense == 0 && what.undecided == 0);
            pages += what.pages;
            sum_of.refs += what.refs;
            sum_of.pins += what.pins;
        }
        sum();
    }
    CHECK(asked == pages);
    uint32_t at_least = atomic_load(ended(&segment)), at_most = atomic_load(begun(&segment));
    printf("%d kills, half in C, half in Rust, each recovered by both in turn; by C: %u pages, %u "
           "references, %u pins; "
           "%u additions, between %u and %u\n",
        KILLS, pages, sum_of.refs, sum_of.pins, sum(), at_least, at_most);
    CHECK(at_least <= sum() && sum() <= at_most && at_most - at_least <= KILLS * THREADS);
    CHECK(pages > 0);
    pagelock_segment_close(&segment);
}

int main(int argc, char **argv) {
    watchdog();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 5) { // start()
        OK(pagelock_segment_attach(atoi(argv[2]), &segment));
        if (strcmp(argv[1], "hold") == 0) hold(&segment);
        count(&segment, (uint32_t)atol(argv[3]), (uint32_t)atol(argv[4]));
        return 0;
    }
    CHECK(argc == 2 || argc == 3);
    rust = argv[1];
    const char *self = "/proc/self/exe";
    careless = argc == 3 && strcmp(argv[2], "careless") == 0;
    if (careless) {
        both_count();
        return 0;
    }
    if (argc == 3) {
        one_dies(self, false, false);
        return 0;
    }
    both_count();
    one_dies(self, true, true);
    one_dies(rust, false, true);
    one_dies(self, false, true);
    puts("killed with pages locked, migrating and frozen, a reference and a pin: C by Rust, Rust "
         "by C, C by C");
    many_die(self);
    return 0;
}
