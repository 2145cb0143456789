// Each function of the header once, by one thread: what it says, what it leaves, what it calls.

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "pagelock.h"
#include "check.h"

_Static_assert(sizeof(struct pagelock_page) == 8, "eight bytes a page");
_Static_assert(sizeof(struct pagelock_guard) == sizeof(void *), "a stage is a pointer");
_Static_assert(sizeof(pagelock_error) == 4, "whatever the compiler does with enums");

static int unlocked;
static void unlock(void *arg) {
    CHECK(arg == &unlocked);
    unlocked++;
}
// Whether the call that is `answer` has let go of the page-table lock, once.
#define ONCE(answer) (unlocked = 0, (answer) && unlocked == 1)

static void locking(void) {
    struct pagelock_page page = {0};
    struct pagelock_guard guard = pagelock_lock(&page), other = {0};
    CHECK(guard.page == &page && page.state == PAGELOCK_STATE_LOCKED && pagelock_is_locked(&page));
    CHECK(pagelock_try_lock(&page, &other) == PAGELOCK_ERROR_LOCKED && other.page == NULL);
    struct pagelock_limits late = {.deadline = 1};
    CHECK(pagelock_lock_within(&page, &late, &other) == PAGELOCK_ERROR_TIMED_OUT);
    CHECK(ONCE(pagelock_lock_releasing(&page, unlock, &unlocked, &late, &other) ==
        PAGELOCK_ERROR_TIMED_OUT));
    struct pagelock_cancel cancel = {0};
    struct pagelock_limits thrown = {.cancel = &cancel};
    CHECK(!pagelock_cancel_is_thrown(&cancel));
    pagelock_cancel_throw(&cancel);
    CHECK(pagelock_cancel_is_thrown(&cancel));
    CHECK(pagelock_lock_within(&page, &thrown, &other) == PAGELOCK_ERROR_CANCELLED);
    pagelock_set_user(guard, 0xff);
    CHECK(pagelock_user(&page) == 31);
    CHECK(!pagelock_unlock(guard) && !pagelock_is_locked(&page) && pagelock_sleepers(&page) == 0);
    CHECK((page.state & PAGELOCK_STATE_USER) >> PAGELOCK_STATE_USER_SHIFT == 31);
    CHECK((page.state & PAGELOCK_STATE_GENERATION) >> PAGELOCK_STATE_GENERATION_SHIFT == 1);
    OK(pagelock_lock_within(&page, NULL, &guard));
    CHECK(!pagelock_unlock_fair(guard));
    CHECK(
        ONCE(pagelock_lock_releasing(&page, unlock, &unlocked, NULL, &guard) == PAGELOCK_ERROR_OK));
    CHECK(!pagelock_unlock(guard));
}

static void claiming(void) {
    struct pagelock_page page = {0};
    struct pagelock_guard guard, other;
    CHECK(pagelock_claim(&page, &guard) == PAGELOCK_CLAIMED_OWNER && !pagelock_unlock(guard));
    CHECK(pagelock_claim(&page, &guard) == PAGELOCK_CLAIMED_OWNER);
    CHECK(pagelock_claim(&page, &other) == PAGELOCK_CLAIMED_IN_FLIGHT && pagelock_unlock(guard));
    CHECK(pagelock_claim_told(&page, &guard) == PAGELOCK_CLAIMED_OWNER && pagelock_unlock(guard));
    CHECK(!pagelock_poison(pagelock_lock(&page)) && pagelock_is_poisoned(&page));
    CHECK(pagelock_claim(&page, &guard) == PAGELOCK_CLAIMED_POISONED);
    CHECK(pagelock_get(&page) == PAGELOCK_ERROR_POISONED &&
        pagelock_pin(&page) == PAGELOCK_ERROR_POISONED);
    CHECK(pagelock_activate(&page, 1) == PAGELOCK_ERROR_POISONED);
    guard = pagelock_lock(&page);
    pagelock_unpoison(guard);
    CHECK(pagelock_is_locked(&page) && !pagelock_unlock(guard));
    OK(pagelock_activate(&page, 1));
}

static void waiting(void) {
    struct pagelock_page page = {0};
    CHECK(ONCE(pagelock_wait_unlocked(&page, unlock, &unlocked, NULL) == PAGELOCK_WAKE_NOT_LOCKED));
    CHECK(pagelock_wait_unlocked(&page, NULL, NULL, NULL) == PAGELOCK_WAKE_NOT_LOCKED);
    struct pagelock_guard guard = pagelock_lock(&page);
    struct pagelock_cancel cancel = {0};
    struct pagelock_limits late = {.deadline = 1}, soon = {.deadline = pagelock_now() + 2000000};
    struct pagelock_limits thrown = {.cancel = &cancel};
    pagelock_cancel_throw(&cancel);
    CHECK(ONCE(pagelock_wait_unlocked(&page, unlock, &unlocked, &late) == PAGELOCK_WAKE_TIMED_OUT));
    CHECK(ONCE(pagelock_wait_unlocked(&page, unlock, &unlocked, &soon) == PAGELOCK_WAKE_TIMED_OUT));
    CHECK(pagelock_now() >= soon.deadline);
    CHECK(
        ONCE(pagelock_wait_unlocked(&page, unlock, &unlocked, &thrown) == PAGELOCK_WAKE_CANCELLED));
    CHECK(
        ONCE(pagelock_wait_migration(&page, unlock, &unlocked, NULL) == PAGELOCK_WAKE_NOT_LOCKED));
    struct pagelock_migration migration = pagelock_begin_migration(guard);
    CHECK(
        ONCE(pagelock_wait_migration(&page, unlock, &unlocked, &late) == PAGELOCK_WAKE_TIMED_OUT));
    CHECK(pagelock_poison(pagelock_end_migration(migration)));
    CHECK(ONCE(pagelock_wait_unlocked(&page, unlock, &unlocked, NULL) == PAGELOCK_WAKE_POISONED));
}

static void counting(void) {
    struct pagelock_page page = {0};
    CHECK(pagelock_get(&page) == PAGELOCK_ERROR_FREE && pagelock_pin(&page) == PAGELOCK_ERROR_FREE);
    CHECK(pagelock_activate(&page, 0) == PAGELOCK_ERROR_ZERO);
    CHECK(pagelock_activate(&page, PAGELOCK_COUNT_REFS + 1) == PAGELOCK_ERROR_OVERFLOW);
    OK(pagelock_activate(&page, 1));
    CHECK(pagelock_activate(&page, 1) == PAGELOCK_ERROR_LIVE);
    OK(pagelock_get(&page));
    OK(pagelock_pin(&page));
    CHECK(page.count == (2u | 1u << PAGELOCK_COUNT_PINS_SHIFT));
    CHECK(pagelock_refs(&page) == 2 && pagelock_pins(&page) == 1);
    CHECK(!pagelock_put(&page) && !pagelock_put(&page) && pagelock_unpin(&page)); // the last one
    OK(pagelock_activate(&page, PAGELOCK_COUNT_REFS));
    CHECK(pagelock_get(&page) == PAGELOCK_ERROR_OVERFLOW);
}

static void moving(void) {
    struct pagelock_page page = {0}, new_page = {0};
    struct pagelock_frozen frozen;
    struct pagelock_limits late = {.deadline = 1};
    OK(pagelock_activate(&page, 2));
    OK(pagelock_pin(&page));
    struct pagelock_guard guard = pagelock_lock(&page);
    pagelock_set_user(guard, 9);
    struct pagelock_migration migration = pagelock_begin_migration(guard);
    CHECK(pagelock_is_migrating(&page) && pagelock_pin(&page) == PAGELOCK_ERROR_MIGRATING);
    CHECK(pagelock_freeze(migration, PAGELOCK_ANY_REFS, &frozen) == PAGELOCK_ERROR_PINNED);
    CHECK(pagelock_freeze_unpinned(migration, 2, &late, &frozen) == PAGELOCK_ERROR_TIMED_OUT);
    CHECK(pagelock_wait_unpinned(migration, &late) == PAGELOCK_ERROR_TIMED_OUT);
    CHECK(!pagelock_unpin(&page));
    OK(pagelock_wait_unpinned(migration, NULL));
    CHECK(pagelock_freeze(migration, 1, &frozen) == PAGELOCK_ERROR_REFERENCED);
    pagelock_set_user_migration(migration, 6);
    CHECK(pagelock_user(&page) == 6);
    OK(pagelock_freeze(migration, 2, &frozen));
    pagelock_set_user_frozen(frozen, 7);
    CHECK(pagelock_user(&page) == 7);
    CHECK(pagelock_is_frozen(&page) && pagelock_get(&page) == PAGELOCK_ERROR_FROZEN);
    migration = pagelock_thaw(frozen);
    OK(pagelock_freeze_unpinned(migration, 2, NULL, &frozen));
    // Refused, both are as before; then the rest of the identity moves.
    struct pagelock_guard dst = pagelock_lock(&new_page);
    struct pagelock_committed committed;
    CHECK(pagelock_commit_to(frozen, dst, 3, NULL) == PAGELOCK_ERROR_TOO_FEW);
    CHECK(pagelock_is_frozen(&page) && pagelock_is_locked(&new_page));
    CHECK(pagelock_commit_to(frozen, (struct pagelock_guard){&page}, 1, NULL) ==
        PAGELOCK_ERROR_SAME_PAGE);
    OK(pagelock_commit_to(frozen, dst, 2, &committed));
    CHECK(committed.source_is_free && !committed.event_waiters);
    CHECK(pagelock_refs(&new_page) == 2 && pagelock_refs(&page) == 0 &&
        pagelock_user(&new_page) == 7);
    CHECK(!pagelock_is_locked(&page) && !pagelock_is_locked(&new_page));
    // The other ways out.
    OK(pagelock_freeze(pagelock_begin_migration(pagelock_lock(&new_page)), 2, &frozen));
    CHECK(!pagelock_commit(frozen) && !pagelock_is_locked(&new_page) &&
        !pagelock_is_migrating(&new_page));
    OK(pagelock_freeze(pagelock_begin_migration(pagelock_lock(&new_page)), 2, &frozen));
    guard = pagelock_commit_keeping(frozen);
    CHECK(pagelock_is_locked(&new_page) && !pagelock_is_migrating(&new_page) &&
        !pagelock_is_frozen(&new_page));
    CHECK(!pagelock_abort(pagelock_begin_migration(guard)) && !pagelock_is_locked(&new_page));
    OK(pagelock_freeze(pagelock_begin_migration(pagelock_lock(&new_page)), 2, &frozen));
    CHECK(!pagelock_poison_frozen(frozen) && pagelock_is_poisoned(&new_page));
    migration = pagelock_begin_migration(pagelock_lock(&new_page));
    CHECK(pagelock_freeze(migration, 2, &frozen) == PAGELOCK_ERROR_POISONED);
    CHECK(!pagelock_abort(migration));
    CHECK(!pagelock_poison_migration(pagelock_begin_migration(pagelock_lock(&page))));
    CHECK(pagelock_is_poisoned(&page) && !pagelock_is_locked(&page));
}

// A thread ends with a page in each stage; another takes over.
static struct pagelock_page left[4];
static void *dies(void *nothing) {
    struct pagelock_frozen frozen;
    (void)pagelock_lock(&left[0]).page;
    (void)pagelock_begin_migration(pagelock_lock(&left[1])).page;
    OK(pagelock_freeze(pagelock_begin_migration(pagelock_lock(&left[2])), 0, &frozen));
    (void)pagelock_lock(&left[3]).page;
    left[3].count |= PAGELOCK_COUNT_FROZEN; // as a kill in the middle of a poisoning leaves it
    return nothing;
}

static void a_death(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, dies, NULL) == 0);
    pthread_join(thread, NULL);
    CHECK(pagelock_take_over(&left[0]) == PAGELOCK_STAGE_LOCKED);
    CHECK(!pagelock_unlock((struct pagelock_guard){&left[0]}));
    CHECK(pagelock_take_over(&left[0]) == PAGELOCK_STAGE_NONE);
    CHECK(pagelock_take_over(&left[1]) == PAGELOCK_STAGE_MIGRATING);
    CHECK(!pagelock_abort((struct pagelock_migration){&left[1]}));
    CHECK(pagelock_take_over(&left[2]) == PAGELOCK_STAGE_FROZEN);
    CHECK(!pagelock_commit((struct pagelock_frozen){&left[2]}));
    CHECK(pagelock_take_over(&left[3]) == PAGELOCK_STAGE_POISONING);
    pagelock_stop_poisoning(&left[3]);
    CHECK(pagelock_is_locked(&left[3]) && !pagelock_is_poisoned(&left[3]));
    left[3].count |= PAGELOCK_COUNT_FROZEN;
    CHECK(pagelock_take_over(&left[3]) == PAGELOCK_STAGE_POISONING);
    pagelock_finish_poisoning(&left[3]);
    CHECK(!pagelock_is_locked(&left[3]) && pagelock_is_poisoned(&left[3]));
    left[0].state += 1 << PAGELOCK_STATE_SLEEPERS_SHIFT; // one that died in its sleep
    pagelock_reset_sleepers(&left[0]);
    CHECK(pagelock_sleepers(&left[0]) == 0);
    pagelock_retell(&left[0]);
}

// The page-table lock is the only thing that keeps the page: once it is let go of, the header is
// unmapped, and the waiter sleeps and wakes without it.
static struct mapped {
    struct pagelock_page *page;
    struct pagelock_guard guard;
    pthread_t owner;
} mapped;

static void release_and_unmap(void *nothing) {
    (void)nothing;
    CHECK(pagelock_unlock(mapped.guard));
    CHECK(munmap(mapped.page, 4096) == 0);
}

static void *owner(void *nothing) {
    usleep(20000); // by now the waiter sleeps
    release_and_unmap(nothing);
    return nothing;
}

static void leave_it_to_the_owner(void *nothing) {
    CHECK(pthread_create(&mapped.owner, NULL, owner, nothing) == 0);
}

static void a_header_that_goes(pagelock_unlock_fn let_go) {
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    mapped.page = memory;
    mapped.guard = pagelock_lock(mapped.page);
    CHECK(pagelock_wait_unlocked(mapped.page, let_go, NULL, NULL) == PAGELOCK_WAKE_RELEASED);
}

static void saying(void) {
    CHECK(pagelock_version() == PAGELOCK_VERSION);
    for (int32_t i = 0; i <= PAGELOCK_ERROR_RECOVERING; i++) {
        CHECK(strlen(pagelock_error_text(i)) > 3 &&
            strstr(pagelock_error_text(i), "not an error") == NULL);
    }
    CHECK(strstr(pagelock_error_text(PAGELOCK_ERROR_PINNED), "pinned"));
    CHECK(strstr(pagelock_error_text(PAGELOCK_ERROR_NO_CLOCK), "clock"));
    CHECK(strstr(pagelock_error_text(PAGELOCK_ERROR_PLATFORM_SET), "set before"));
    CHECK(strstr(pagelock_error_text(-1), "not an error"));
    CHECK(strstr(pagelock_error_text(PAGELOCK_ERROR_RECOVERING + 1), "not an error"));
}

// Last: there is one platform. It has no clock, so deadlines are refused, with the lock let go of.
static int32_t never(void *context, const uint32_t *word, uint32_t expected) {
    (void)context, (void)word, (void)expected;
    return PAGELOCK_SLEPT_UNKNOWN;
}
static void no_wake(void *context, const uint32_t *word) { (void)context, (void)word; }
static struct pagelock_page *told;
static void tell(void *context, struct pagelock_page *page) {
    CHECK(context == &told);
    told = page;
}

static void platforms(void) {
    static struct pagelock_platform table = {.size = sizeof table, .context = &told, .tell = tell};
    struct pagelock_platform bad = {.size = sizeof bad - 1};
    CHECK(pagelock_set_platform(&bad) == PAGELOCK_ERROR_BAD_PLATFORM);
    bad = (struct pagelock_platform){.size = sizeof bad, .wait = never};
    CHECK(pagelock_set_platform(&bad) == PAGELOCK_ERROR_BAD_PLATFORM);
    bad = (struct pagelock_platform){.size = sizeof bad, .n_events = 1};
    CHECK(pagelock_set_platform(&bad) == PAGELOCK_ERROR_BAD_PLATFORM);
    table.wait = never, table.wake_one = table.wake_all = no_wake;
    OK(pagelock_set_platform(&table));
    CHECK(pagelock_set_platform(&table) == PAGELOCK_ERROR_PLATFORM_SET);
    struct pagelock_page page = {0};
    struct pagelock_guard guard = pagelock_lock(&page), other;
    struct pagelock_limits soon = {.deadline = 1};
    CHECK(pagelock_now() == 0);
    CHECK(pagelock_lock_within(&page, &soon, &other) == PAGELOCK_ERROR_NO_CLOCK);
    CHECK(ONCE(pagelock_lock_releasing(&page, unlock, &unlocked, &soon, &other) ==
        PAGELOCK_ERROR_NO_CLOCK));
    CHECK(ONCE(pagelock_wait_unlocked(&page, unlock, &unlocked, &soon) == PAGELOCK_WAKE_NO_CLOCK));
    CHECK(pagelock_claim(&page, &other) == PAGELOCK_CLAIMED_IN_FLIGHT && told == NULL);
    CHECK(pagelock_unlock(guard) && told == &page);
}

int main(void) {
    watchdog();
    locking();
    claiming();
    waiting();
    counting();
    moving();
    a_death();
    a_header_that_goes(release_and_unmap);
    a_header_that_goes(leave_it_to_the_owner);
    pthread_join(mapped.owner, NULL);
    saying();
    platforms();
    puts("every function says what the header says");
    return 0;
}
