// Each function of segments and seats, by one process: what it says, what it leaves.

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "pagelock.h"
#include "check.h"

static struct pagelock_segment segment;
static struct pagelock_seat seat;

static int unlocked;
static void unlock(void *arg) {
    CHECK(arg == &unlocked);
    unlocked++;
}

static uint32_t at(uint32_t offset) {
    uint32_t word;
    CHECK(pread(pagelock_segment_fd(&segment), &word, 4, offset) == 4);
    return word;
}

// The constants of the layout, held against the bytes of the file.
static void layout(void) {
    char magic[8];
    CHECK(pread(pagelock_segment_fd(&segment), magic, 8, 0) == 8 &&
        memcmp(magic, "pagelock", 8) == 0);
    CHECK(at(8) == PAGELOCK_SEGMENT_ORDER && at(12) == PAGELOCK_SEGMENT_VERSION &&
        at(16) == PAGELOCK_SEGMENT_HEAD_BYTES);
    CHECK(at(PAGELOCK_SEGMENT_SEATS_OFFSET) == 3 && at(PAGELOCK_SEGMENT_CAPACITY_OFFSET) == 40);
    CHECK(at(PAGELOCK_SEGMENT_PAGES_OFFSET) == 10);
    uint32_t pages_at = at(PAGELOCK_SEGMENT_PAGES_AT_OFFSET);
    CHECK(pages_at == PAGELOCK_SEGMENT_SEATS_AT + 3 * PAGELOCK_SEGMENT_SEAT_BYTES);
    *pagelock_segment_word(&segment, 1) = 71;
    CHECK(
        at(PAGELOCK_SEGMENT_WORDS_OFFSET + 4) == 71 && pagelock_segment_word(&segment, 2) == NULL);
    *pagelock_segment_page_word(&segment, 4) = 72;
    uint32_t page = pages_at + 4 * PAGELOCK_SEGMENT_PAGE_BYTES;
    CHECK(at(page + PAGELOCK_SEGMENT_PAGE_WORD_OFFSET) == 72 &&
        pagelock_segment_page_word(&segment, 10) == NULL);

    struct pagelock_seat_guard guard;
    OK(pagelock_seat_lock(&seat, 4, &guard));
    pagelock_seat_set_tag(guard, 73);
    uint32_t note = PAGELOCK_SEGMENT_SEATS_AT +
        PAGELOCK_SEGMENT_SEAT_BYTES * pagelock_seat_number(&seat) + PAGELOCK_SEAT_NOTES_OFFSET;
    CHECK(at(note) == (PAGELOCK_NOTE_LOCK | PAGELOCK_NOTE_HELD) && at(note + 4) == 4 &&
        at(note + 12) == 73);
    CHECK(at(note + PAGELOCK_NOTE_BYTES) == 0 && at(page) == PAGELOCK_STATE_LOCKED);
    CHECK(!pagelock_seat_unlock(guard) && at(note) == 0 && !(at(page) & PAGELOCK_STATE_LOCKED));
    // Another description of the same file sees that this process sits there.
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", pagelock_segment_fd(&segment));
    int other = open(path, O_RDWR | O_CLOEXEC);
    struct flock lock = {
        .l_type = F_WRLCK, .l_start = (off_t)PAGELOCK_SEGMENT_SEAT_LOCKS, .l_len = 1};
    CHECK(other >= 0 && fcntl(other, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK);
    close(other);
}

static void locking(void) {
    struct pagelock_seat_guard guard, other;
    struct pagelock_cancel cancel = {0};
    struct pagelock_limits late = {.deadline = 1}, thrown = {.cancel = &cancel};
    const struct pagelock_page *page = pagelock_segment_page(&segment, 5);
    OK(pagelock_seat_lock(&seat, 5, &guard));
    CHECK(pagelock_is_locked(page) &&
        pagelock_seat_try_lock(&seat, 5, &other) == PAGELOCK_ERROR_LOCKED);
    CHECK(pagelock_seat_lock_within(&seat, 5, &late, &other) == PAGELOCK_ERROR_TIMED_OUT);
    unlocked = 0;
    CHECK(pagelock_seat_wait_unlocked(&seat, 5, unlock, &unlocked, &late) ==
            PAGELOCK_WAKE_TIMED_OUT &&
        unlocked == 1);
    pagelock_cancel_throw(&cancel);
    CHECK(pagelock_seat_lock_within(&seat, 5, &thrown, &other) == PAGELOCK_ERROR_CANCELLED);
    CHECK(pagelock_seat_wait_unlocked(&seat, 5, unlock, &unlocked, &thrown) ==
            PAGELOCK_WAKE_CANCELLED &&
        unlocked == 2);
    pagelock_seat_set_user(guard, 31);
    CHECK(pagelock_user(page) == 31);
    pagelock_seat_unlock(guard);
    CHECK(pagelock_seat_wait_unlocked(&seat, 5, unlock, &unlocked, NULL) ==
            PAGELOCK_WAKE_NOT_LOCKED &&
        unlocked == 3);
    CHECK(pagelock_seat_wait_unlocked(&seat, 99, unlock, &unlocked, NULL) ==
            PAGELOCK_WAKE_NO_SUCH_PAGE &&
        unlocked == 4);
    CHECK(pagelock_seat_wait_migration(&seat, 99, unlock, &unlocked, NULL) ==
            PAGELOCK_WAKE_NO_SUCH_PAGE &&
        unlocked == 5);
    OK(pagelock_seat_try_lock(&seat, 5, &guard));
    CHECK(!pagelock_seat_poison(guard) && pagelock_is_poisoned(page));
    CHECK(pagelock_seat_lock(&seat, 99, &guard) == PAGELOCK_ERROR_NO_SUCH_PAGE);
    CHECK(pagelock_segment_page(&segment, 99) == NULL);
}

static void counting(void) {
    struct pagelock_seat_ref first, second;
    struct pagelock_seat_pin pin;
    CHECK(pagelock_seat_try_get(&seat, 6, &first) == PAGELOCK_ERROR_FREE);
    CHECK(pagelock_seat_try_pin(&seat, 6, &pin) == PAGELOCK_ERROR_FREE);
    OK(pagelock_seat_activate(&seat, 6, &first));
    CHECK(pagelock_seat_activate(&seat, 6, &second) == PAGELOCK_ERROR_LIVE);
    OK(pagelock_seat_try_get(&seat, 6, &second));
    OK(pagelock_seat_try_pin(&seat, 6, &pin));
    const struct pagelock_page *page = pagelock_segment_page(&segment, 6);
    CHECK(pagelock_refs(page) == 2 && pagelock_pins(page) == 1 &&
        pagelock_seat_room(&seat) == PAGELOCK_SEAT_NOTES - 3);
    pagelock_seat_leave_ref(second);
    CHECK(pagelock_refs(page) == 2 && pagelock_seat_room(&seat) == PAGELOCK_SEAT_NOTES - 2);
    OK(pagelock_seat_adopt_ref(&seat, 6, &second));
    pagelock_seat_leave_pin(pin);
    CHECK(pagelock_pins(page) == 1 && pagelock_seat_room(&seat) == PAGELOCK_SEAT_NOTES - 2);
    OK(pagelock_seat_adopt_pin(&seat, 6, &pin));
    CHECK(pagelock_seat_adopt_pin(&seat, 99, &pin) == PAGELOCK_ERROR_NO_SUCH_PAGE);
    CHECK(!pagelock_seat_put(first) && !pagelock_seat_unpin(pin) && pagelock_seat_put(second));
    CHECK(pagelock_refs(page) == 0 && pagelock_seat_room(&seat) == PAGELOCK_SEAT_NOTES);
    CHECK(pagelock_seat_try_get(&seat, 5, &first) == PAGELOCK_ERROR_POISONED);

    // A seat that has as much as it can note.
    struct pagelock_seat_ref many[PAGELOCK_SEAT_NOTES];
    struct pagelock_seat_guard guard;
    OK(pagelock_seat_activate(&seat, 6, &many[0]));
    for (unsigned i = 1; i < PAGELOCK_SEAT_NOTES; i++)
        OK(pagelock_seat_try_get(&seat, 6, &many[i]));
    CHECK(pagelock_seat_try_get(&seat, 6, &first) == PAGELOCK_ERROR_SEAT_FULL);
    CHECK(pagelock_seat_lock(&seat, 7, &guard) == PAGELOCK_ERROR_SEAT_FULL);
    for (unsigned i = 0; i < PAGELOCK_SEAT_NOTES; i++)
        CHECK(pagelock_seat_put(many[i]) == (i + 1 == PAGELOCK_SEAT_NOTES));
}

static struct pagelock_seat_migration begun(uint32_t page) {
    struct pagelock_seat_guard guard;
    OK(pagelock_seat_lock(&seat, page, &guard));
    return pagelock_seat_begin_migration(guard);
}

static struct pagelock_seat_frozen frozen(uint32_t page) {
    struct pagelock_seat_frozen frozen;
    OK(pagelock_seat_freeze(begun(page), PAGELOCK_ANY_REFS, &frozen));
    return frozen;
}

// What the seat's note of the lock of `page` has for a survivor.
static uint32_t tag_of(uint32_t page) {
    uint32_t note = PAGELOCK_SEGMENT_SEATS_AT +
        PAGELOCK_SEGMENT_SEAT_BYTES * pagelock_seat_number(&seat) + PAGELOCK_SEAT_NOTES_OFFSET;
    for (unsigned i = 0; i < PAGELOCK_SEAT_NOTES; i++, note += PAGELOCK_NOTE_BYTES)
        if ((at(note) & 0xff) == PAGELOCK_NOTE_LOCK && at(note + 4) == page) return at(note + 12);
    return 0;
}

static void migrating(void) {
    struct pagelock_seat_ref reference;
    struct pagelock_seat_pin pin, late;
    struct pagelock_seat_guard guard;
    struct pagelock_seat_frozen stage;
    struct pagelock_limits soon = {.deadline = pagelock_now() + 2000000};
    struct pagelock_committed committed;
    const struct pagelock_page *page = pagelock_segment_page(&segment, 7);
    OK(pagelock_seat_activate(&seat, 7, &reference));
    OK(pagelock_seat_try_pin(&seat, 7, &pin));
    struct pagelock_seat_migration migration = begun(7);
    CHECK(pagelock_is_migrating(page) &&
        pagelock_seat_try_pin(&seat, 7, &late) == PAGELOCK_ERROR_MIGRATING);
    CHECK(pagelock_seat_freeze(migration, 1, &stage) == PAGELOCK_ERROR_PINNED);
    CHECK(pagelock_seat_freeze_unpinned(migration, 1, &soon, &stage) == PAGELOCK_ERROR_TIMED_OUT);
    CHECK(pagelock_seat_wait_unpinned(migration, &soon) == PAGELOCK_ERROR_TIMED_OUT);
    CHECK(!pagelock_seat_unpin(pin));
    OK(pagelock_seat_wait_unpinned(migration, NULL));
    CHECK(pagelock_seat_freeze(migration, 2, &stage) == PAGELOCK_ERROR_REFERENCED);
    pagelock_seat_set_user_migration(migration, 12);
    pagelock_seat_set_tag_migration(migration, 74);
    CHECK(pagelock_user(page) == 12 && tag_of(7) == 74);
    OK(pagelock_seat_freeze_unpinned(migration, 1, NULL, &stage));
    pagelock_seat_set_user_frozen(stage, 13);
    pagelock_seat_set_tag_frozen(stage, 75);
    CHECK(pagelock_user(page) == 13 && tag_of(7) == 75);
    CHECK(pagelock_is_frozen(page) &&
        pagelock_seat_try_get(&seat, 7, &reference) == PAGELOCK_ERROR_FROZEN);
    guard = pagelock_seat_end_migration(pagelock_seat_thaw(stage));
    CHECK(pagelock_is_locked(page) && !pagelock_is_migrating(page));
    pagelock_seat_abort(pagelock_seat_begin_migration(guard));
    CHECK(!pagelock_is_locked(page));
    pagelock_seat_commit(frozen(7));
    guard = pagelock_seat_commit_keeping(frozen(7));
    CHECK(pagelock_is_locked(page) && !pagelock_is_frozen(page));
    pagelock_seat_set_user(guard, 9);
    pagelock_seat_unlock(guard);
    // To another header, which is refused as long as it is poisoned.
    stage = frozen(7);
    OK(pagelock_seat_lock(&seat, 5, &guard));
    CHECK(pagelock_seat_commit_to(stage, guard, &committed) == PAGELOCK_ERROR_POISONED);
    pagelock_seat_unlock(guard);
    OK(pagelock_seat_lock(&seat, 8, &guard));
    OK(pagelock_seat_commit_to(stage, guard, &committed));
    CHECK(!committed.source_is_free && pagelock_user(pagelock_segment_page(&segment, 8)) == 9);
    CHECK(!pagelock_is_locked(page) && !pagelock_is_locked(pagelock_segment_page(&segment, 8)));
    pagelock_seat_poison_frozen(frozen(7));
    CHECK(pagelock_is_poisoned(page) && pagelock_seat_room(&seat) == PAGELOCK_SEAT_NOTES - 1);
    (void)!pagelock_seat_put(reference);
    page = pagelock_segment_page(&segment, 3);
    CHECK(!pagelock_seat_poison_migration(begun(3)));
    CHECK(pagelock_is_poisoned(page) && !pagelock_is_locked(page));
}

static atomic_bool waits;
static void *wait_for_page(void *woken) {
    struct pagelock_seat own;
    OK(pagelock_seat_take(&segment, &own));
    atomic_store(&waits, true);
    *(pagelock_wake *)woken = pagelock_seat_wait_unlocked(&own, 9, NULL, NULL, NULL);
    pagelock_seat_leave(&own);
    return NULL;
}

static void *wait_under_a_switch(void *cancel) {
    struct pagelock_seat own;
    struct pagelock_seat_guard guard;
    struct pagelock_limits thrown = {.cancel = cancel};
    OK(pagelock_seat_take(&segment, &own));
    CHECK(pagelock_seat_lock_within(&own, 9, &thrown, &guard) == PAGELOCK_ERROR_CANCELLED);
    pagelock_seat_leave(&own);
    return NULL;
}

static void waiting(void) {
    struct pagelock_seat_guard guard;
    struct pagelock_cancel cancel = {0};
    pthread_t waiter;
    pagelock_wake woken = -1;
    OK(pagelock_seat_lock(&seat, 9, &guard));
    CHECK(pthread_create(&waiter, NULL, wait_under_a_switch, &cancel) == 0);
    usleep(20000); // it sleeps in the segment's slots by then, and is woken there
    pagelock_cancel_throw(&cancel);
    pthread_join(waiter, NULL);
    CHECK(pthread_create(&waiter, NULL, wait_for_page, &woken) == 0);
    while (!atomic_load(&waits)) usleep(100);
    usleep(20000);
    pagelock_seat_unlock(guard);
    pthread_join(waiter, NULL);
    CHECK(woken == PAGELOCK_WAKE_RELEASED || woken == PAGELOCK_WAKE_NOT_LOCKED);
}

static void growing(void) {
    struct pagelock_segment again;
    struct pagelock_seat_guard guard;
    uint32_t now = 0;
    OK(pagelock_segment_attach(pagelock_segment_fd(&segment), &again));
    CHECK(pagelock_segment_grow(&segment, 41, &now) == PAGELOCK_ERROR_CAPACITY && now == 0);
    OK(pagelock_segment_grow(&segment, 40, &now));
    CHECK(now == 40 && pagelock_segment_pages(&segment) == 40 &&
        pagelock_segment_pages(&again) == 10);
    CHECK(pagelock_segment_page(&again, 39) == NULL);
    OK(pagelock_segment_refresh(&again, &now));
    CHECK(now == 40 && pagelock_segment_page(&again, 39) != NULL &&
        pagelock_segment_page(&again, 40) == NULL);
    OK(pagelock_segment_refresh(&again, NULL));
    OK(pagelock_seat_lock(&seat, 39, &guard));
    CHECK(pagelock_is_locked(pagelock_segment_page(&again, 39)));
    pagelock_seat_unlock(guard);
    CHECK(pagelock_segment_page(&again, 39) != pagelock_segment_page(&segment, 39)); // mapped twice
    pagelock_segment_close(&again);
}

static void sitting(void) {
    struct pagelock_seat second, third, fourth;
    bool left = true;
    OK(pagelock_seat_take(&segment, &second));
    OK(pagelock_seat_take(&segment, &third));
    CHECK(pagelock_seat_number(&second) != pagelock_seat_number(&third));
    CHECK(pagelock_seat_take(&segment, &fourth) == PAGELOCK_ERROR_NO_SEAT);
    pagelock_seat_leave(&third);
    pagelock_seat_leave(&second);
    OK(pagelock_segment_wait_for_end_of(&segment, 2, &left));
    CHECK(!left);
    errno = 0;
    CHECK(pagelock_segment_wait_for_end_of(&segment, 3, &left) == PAGELOCK_ERROR_SYSTEM &&
        errno == EINVAL);
    struct pagelock_recovered what;
    OK(pagelock_segment_recover(&segment, NULL, NULL, &what));
    CHECK(what.seats == 0 && what.pages == 0);
    OK(pagelock_segment_recover(&segment, NULL, NULL, NULL));
}

static void making(void) {
    struct pagelock_segment other, many[PAGELOCK_MAX_SEGMENTS];
    CHECK(pagelock_segment_create("none", 0, 0, 1, &other) == PAGELOCK_ERROR_SEGMENT_SIZE);
    CHECK(pagelock_segment_create("none", 2, 1, 1, &other) == PAGELOCK_ERROR_SEGMENT_SIZE);
    CHECK(pagelock_segment_create("none", 1, 1, 0, &other) == PAGELOCK_ERROR_SEGMENT_SIZE);
    CHECK(pagelock_segment_create("none", 1, 1, PAGELOCK_SEGMENT_MAX_SEATS + 1, &other) ==
        PAGELOCK_ERROR_SEGMENT_SIZE);
    CHECK(pagelock_segment_create("none", 1, PAGELOCK_SEGMENT_MAX_PAGES + 1, 1, &other) ==
        PAGELOCK_ERROR_SEGMENT_SIZE);
    // One is mapped already.
    for (unsigned i = 1; i < PAGELOCK_MAX_SEGMENTS; i++)
        OK(pagelock_segment_create("many", 1, 1, 1, &many[i]));
    CHECK(pagelock_segment_create("many", 1, 1, 1, &other) == PAGELOCK_ERROR_TOO_MANY_SEGMENTS);
    for (unsigned i = 1; i < PAGELOCK_MAX_SEGMENTS; i++) pagelock_segment_close(&many[i]);
    OK(pagelock_segment_create("again", 1, 1, 1, &other));
    pagelock_segment_close(&other);
    // Each error has a text of its own, and what is none says so.
    for (int32_t a = 0; a <= PAGELOCK_ERROR_RECOVERING + 1; a++)
        for (int32_t b = 0; b < a; b++)
            CHECK(strcmp(pagelock_error_text(a), pagelock_error_text(b)) != 0);
    CHECK(strcmp(pagelock_error_text(PAGELOCK_ERROR_RECOVERING + 1), pagelock_error_text(-1)) == 0);
}

int main(void) {
    watchdog();
    OK(pagelock_segment_create("test", 10, 40, 3, &segment));
    CHECK(pagelock_segment_capacity(&segment) == 40 && pagelock_segment_seats(&segment) == 3);
    CHECK(pagelock_segment_pages(&segment) == 10 && pagelock_segment_fd(&segment) >= 0);
    OK(pagelock_seat_take(&segment, &seat));
    CHECK(pagelock_seat_number(&seat) == 0 && pagelock_seat_room(&seat) == PAGELOCK_SEAT_NOTES);
    layout();
    locking();
    counting();
    migrating();
    waiting();
    growing();
    sitting();
    making();
    pagelock_seat_leave(&seat);
    pagelock_segment_close(&segment);
    puts("each function of segments and seats says what the header says");
    return 0;
}
