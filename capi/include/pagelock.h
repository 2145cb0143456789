/* The page lock of an operating system's memory manager: eight bytes a page. C11, C++17.
 *
 * Made from the sources by cbindgen: change it there.
 *
 * A pointer is not null unless the function says so. What a function "takes" is not used again. An
 * error leaves everything as it was, unless the function says otherwise. */

#ifndef PAGELOCK_H
#define PAGELOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the library calls does not throw, and does not jump out of it. */
#if defined(__cplusplus) && __cplusplus >= 201703L
#define PAGELOCK_NOEXCEPT noexcept
#else
#define PAGELOCK_NOEXCEPT
#endif

/* An answer that has to be looked at. */
#if defined(__cplusplus) && __cplusplus >= 201703L
#define PAGELOCK_MUST_USE [[nodiscard]]
#elif defined(__GNUC__)
#define PAGELOCK_MUST_USE __attribute__((warn_unused_result))
#else
#define PAGELOCK_MUST_USE
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct pagelock_page;

/* Lets go of the lock that guards a page-table entry. */
typedef void (*pagelock_unlock_fn)(void *arg) PAGELOCK_NOEXCEPT;

/* The functions of a platform, see pagelock_platform. */
typedef int32_t (*pagelock_wait_fn)(void *context, const uint32_t *word, uint32_t expected)
    PAGELOCK_NOEXCEPT;
typedef int32_t (*pagelock_wait_until_fn)(void *context, const uint32_t *word, uint32_t expected,
                                          uint64_t at) PAGELOCK_NOEXCEPT;
typedef void (*pagelock_wake_fn)(void *context, const uint32_t *word) PAGELOCK_NOEXCEPT;
typedef void (*pagelock_relax_fn)(void *context) PAGELOCK_NOEXCEPT;
typedef uint64_t (*pagelock_now_fn)(void *context) PAGELOCK_NOEXCEPT;
typedef void (*pagelock_page_fn)(void *context, struct pagelock_page *page) PAGELOCK_NOEXCEPT;

#ifdef __cplusplus
}  // extern "C"
#endif


// The version of this header: major, minor, patch, eight bits each.
#define PAGELOCK_VERSION 0x00000100u

// Any number of references, as long as there are no pins: for `pagelock_freeze`.
#define PAGELOCK_ANY_REFS 0xffffffffu

// Somebody owns the page.
#define PAGELOCK_STATE_LOCKED 0x00000001u

// The next release wakes a locker.
#define PAGELOCK_STATE_LOCK_WAITERS 0x00000002u

// The next release tells the page's event slot.
#define PAGELOCK_STATE_EVENT_WAITERS 0x00000004u

// The owner is migrating the page.
#define PAGELOCK_STATE_MIGRATING 0x00000008u

// The contents are lost.
#define PAGELOCK_STATE_POISONED 0x00000010u

// Only lockers that are registered may take the page.
#define PAGELOCK_STATE_CLOSED 0x00000020u

// Lockers wait outside for the gate to open.
#define PAGELOCK_STATE_CROWD 0x00000040u

// Your five bits, and where they begin.
#define PAGELOCK_STATE_USER 0x00000f80u

#define PAGELOCK_STATE_USER_SHIFT 7u

// How many lockers are registered, and where the number begins.
#define PAGELOCK_STATE_SLEEPERS 0x00fff000u

#define PAGELOCK_STATE_SLEEPERS_SHIFT 12u

// How often the page was released, modulo 256, and where the number begins.
#define PAGELOCK_STATE_GENERATION 0xff000000u

#define PAGELOCK_STATE_GENERATION_SHIFT 24u

// The references, which begin at bit 0.
#define PAGELOCK_COUNT_REFS 0x0007ffffu

// The pins, and where they begin.
#define PAGELOCK_COUNT_PINS 0x7ff80000u

#define PAGELOCK_COUNT_PINS_SHIFT 19u

// No reference and no pin is given.
#define PAGELOCK_COUNT_FROZEN 0x80000000u

// Whose the page is now.
enum pagelock_claimed
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
  // Yours: `guard` was set.
  PAGELOCK_CLAIMED_OWNER = 0,
  // Somebody else's, whose release tells.
  PAGELOCK_CLAIMED_IN_FLIGHT = 1,
  // Nobody's: the contents are lost, and there is nothing to wait for.
  PAGELOCK_CLAIMED_POISONED = 2,
};
#ifndef __cplusplus
typedef int32_t pagelock_claimed;
#endif // __cplusplus

// Why something was not done. Nothing has changed then, unless the function says otherwise.
enum pagelock_error
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
  // It was done.
  PAGELOCK_ERROR_OK = 0,
  // The page is locked, or kept for somebody who sleeps for it.
  PAGELOCK_ERROR_LOCKED = 1,
  // The deadline has passed.
  PAGELOCK_ERROR_TIMED_OUT = 2,
  // The switch was thrown.
  PAGELOCK_ERROR_CANCELLED = 3,
  // The contents are lost for good.
  PAGELOCK_ERROR_POISONED = 4,
  // The page has neither references nor pins.
  PAGELOCK_ERROR_FREE = 5,
  // A migration has frozen the counts: wait for it, and look again.
  PAGELOCK_ERROR_FROZEN = 6,
  // The page is being migrated: wait for it, and look again.
  PAGELOCK_ERROR_MIGRATING = 7,
  // It has pins.
  PAGELOCK_ERROR_PINNED = 8,
  // It has other references than were to be there.
  PAGELOCK_ERROR_REFERENCED = 9,
  // It is in use already.
  PAGELOCK_ERROR_LIVE = 10,
  // There is no room to count so many.
  PAGELOCK_ERROR_OVERFLOW = 11,
  // Nothing was asked for: a number is zero.
  PAGELOCK_ERROR_ZERO = 12,
  // Source and destination are one page.
  PAGELOCK_ERROR_SAME_PAGE = 13,
  // The source has fewer references than were to move.
  PAGELOCK_ERROR_TOO_FEW = 14,
  // A deadline was given, and the platform has no clock.
  PAGELOCK_ERROR_NO_CLOCK = 15,
  // The platform's table lacks a function, has another size, or has no event slot.
  PAGELOCK_ERROR_BAD_PLATFORM = 16,
  // A platform was set before.
  PAGELOCK_ERROR_PLATFORM_SET = 17,
};
#ifndef __cplusplus
typedef int32_t pagelock_error;
#endif // __cplusplus

// How a sleep has ended, as far as the platform can tell.
enum pagelock_slept
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
  // The platform cannot tell. Any number that is not below says this too.
  PAGELOCK_SLEPT_UNKNOWN = 0,
  // A wake was meant for this sleeper, which has thereby used it up.
  PAGELOCK_SLEPT_WOKEN = 1,
  // The word did not have the expected value: no sleep.
  PAGELOCK_SLEPT_CHANGED = 2,
  // Something else has ended the sleep, a signal for instance: no wake was used up.
  PAGELOCK_SLEPT_INTERRUPTED = 3,
  // The time was up: no wake was used up.
  PAGELOCK_SLEPT_TIMED_OUT = 4,
};
#ifndef __cplusplus
typedef int32_t pagelock_slept;
#endif // __cplusplus

// What a dead owner has left. Whoever takes it over makes the stage of it that the name says, with
// the page's address.
enum pagelock_stage
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
  // Nothing: nobody owned the page.
  PAGELOCK_STAGE_NONE = 0,
  // A `pagelock_guard`.
  PAGELOCK_STAGE_LOCKED = 1,
  // A `pagelock_migration`.
  PAGELOCK_STAGE_MIGRATING = 2,
  // A `pagelock_frozen`. How far its owner came with the bytes, the entries say.
  PAGELOCK_STAGE_FROZEN = 3,
  // The page is in the middle of being poisoned: `pagelock_finish_poisoning`, or
  // `pagelock_stop_poisoning`.
  PAGELOCK_STAGE_POISONING = 4,
};
#ifndef __cplusplus
typedef int32_t pagelock_stage;
#endif // __cplusplus

// How a wait has ended. In every case the page-table lock was let go of, and the caller looks at
// its page table again.
enum pagelock_wake
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
  // The page was released, or another of its event slot.
  PAGELOCK_WAKE_RELEASED = 0,
  // There was nothing to wait for.
  PAGELOCK_WAKE_NOT_LOCKED = 1,
  // The deadline has passed.
  PAGELOCK_WAKE_TIMED_OUT = 2,
  // The switch was thrown.
  PAGELOCK_WAKE_CANCELLED = 3,
  // The contents are lost for good. There was no sleep.
  PAGELOCK_WAKE_POISONED = 4,
  // A deadline was given, and the platform has no clock. There was no sleep.
  PAGELOCK_WAKE_NO_CLOCK = 5,
};
#ifndef __cplusplus
typedef int32_t pagelock_wake;
#endif // __cplusplus

// A switch that ends waits, of any number of threads and for any pages. All zeroes is a switch
// that is not thrown.
typedef struct pagelock_cancel {
  // The library's.
  uint32_t word;
} pagelock_cancel;

// A page's header. All zeroes is a page that is unlocked and free. Put it wherever you keep a
// page's metadata; read and write it through the functions below alone. A debugger finds the
// masks of the two words below.
typedef struct pagelock_page {
  // Lock, sleepers, migration: PAGELOCK_STATE_*.
  uint32_t state;
  // References and pins: PAGELOCK_COUNT_*.
  uint32_t count;
} pagelock_page;

// A page that is locked, and whose lock is yours. It may go to another thread.
typedef struct pagelock_guard {
  // The page.
  struct pagelock_page *page;
} pagelock_guard;

// How long something may take. All zeroes, like a null pointer in place of it: as long as it takes.
typedef struct pagelock_limits {
  // Until when, in nanoseconds on the clock of `pagelock_now`; 0 is no deadline.
  uint64_t deadline;
  // The switch that ends it, or null.
  struct pagelock_cancel *cancel;
} pagelock_limits;

// A page that is locked and migrating: waits for its migration wait, and pins are refused.
typedef struct pagelock_migration {
  // The page.
  struct pagelock_page *page;
} pagelock_migration;

// A page that is locked and migrating, and whose counts stand still: no pins, no new references.
typedef struct pagelock_frozen {
  // The page.
  struct pagelock_page *page;
} pagelock_frozen;

// What a commit to another header has come to.
typedef struct pagelock_committed {
  // The last references of the source have moved away: it is free, and nobody else says so.
  bool source_is_free;
  // Somebody had waited for the source.
  bool event_waiters;
} pagelock_committed;

// A slot of the event table. All zeroes at first; the words are the library's.
typedef struct pagelock_event {
  uint32_t words[4];
} pagelock_event;

// A platform. Every function is given `context`, and may be called by several threads at once.
//
// `wait`, `wake_one` and `wake_all` come together. Where an operating system is built in they may
// all be null, which means its own; then `now` and `wait_until` are its own too. The rest may be
// null in any case.
//
// A table that is set is neither changed nor freed.
typedef struct pagelock_platform {
  // sizeof(pagelock_platform): whoever was compiled with another header is refused.
  size_t size;
  // For the functions.
  void *context;
  // Sleeps while `*word` is `expected`, until woken; a PAGELOCK_SLEPT. May return at any time.
  // The comparison, an atomic load, and going to sleep are one step with respect to wakes: a
  // wake that comes after the word was changed is not missed by who saw the old value. The word
  // is never stored to.
  pagelock_wait_fn wait;
  // Wakes one sleeper on `word`, the longest asleep if it can. `word` is an address and is not
  // read: what it pointed to may be gone.
  pagelock_wake_fn wake_one;
  // Wakes every sleeper on `word`, an address.
  pagelock_wake_fn wake_all;
  // Lets something else run for a moment. Some pauses of the processor if null.
  pagelock_relax_fn relax;
  // The time in nanoseconds, on a clock that only goes forward. Without it and `wait_until`
  // there are no deadlines.
  pagelock_now_fn now;
  // `wait` that also ends when the clock reaches `at`.
  pagelock_wait_until_fn wait_until;
  // Called by a release that somebody has waited for or claimed, after the library's own
  // sleepers were told. `page` is an address: the page is unlocked and may be gone.
  pagelock_page_fn tell;
  // For the headers that several processes share, by the operating system's futex: the event
  // slots, in shared memory and zeroed at first. Null otherwise. All processes have the same
  // number of them.
  struct pagelock_event *events;
  // How many there are.
  size_t n_events;
  // Where this process has mapped the first header of the shared memory.
  struct pagelock_page *first_page;
} pagelock_platform;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the library, to be compared with PAGELOCK_VERSION of the header: while the major
// version is 0, major and minor have to be the same.
uint32_t pagelock_version(void) PAGELOCK_NOEXCEPT;

// One line of English about `error`, which may be any number. It stays valid for ever.
const char *pagelock_error_text(int32_t error) PAGELOCK_NOEXCEPT;

// Now, in nanoseconds on the platform's clock; on an operating system that is CLOCK_MONOTONIC.
// 0 if there is no clock.
uint64_t pagelock_now(void) PAGELOCK_NOEXCEPT;

// Throws the switch: every wait under it ends, present and future. Whoever returns for that reason
// sees what the caller did before.
void pagelock_cancel_throw(struct pagelock_cancel *cancel) PAGELOCK_NOEXCEPT;

// Whether the switch is thrown.
bool pagelock_cancel_is_thrown(const struct pagelock_cancel *cancel) PAGELOCK_NOEXCEPT;

// Locks the page, sleeping until it can. A page whose contents are lost can be locked too.
PAGELOCK_MUST_USE struct pagelock_guard pagelock_lock(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Locks the page if that takes no sleep; PAGELOCK_ERROR_LOCKED if somebody has it.
PAGELOCK_MUST_USE
pagelock_error pagelock_try_lock(struct pagelock_page *page,
                                 struct pagelock_guard *guard)
PAGELOCK_NOEXCEPT;

// Locks the page, sleeping no longer than `limits` allow. TIMED_OUT, CANCELLED, NO_CLOCK.
PAGELOCK_MUST_USE
pagelock_error pagelock_lock_within(struct pagelock_page *page,
                                    const struct pagelock_limits *limits,
                                    struct pagelock_guard *guard)
PAGELOCK_NOEXCEPT;

// Lets go of the page-table lock, by `unlock(arg)`, then locks the page; newcomers cannot overtake
// the caller meanwhile. For a faulter that has lost the race for the page too often. The header
// must stay where it is for the whole call.
//
// `unlock` is called in any case, exactly once. `limits` may be null. TIMED_OUT, CANCELLED, NO_CLOCK.
PAGELOCK_MUST_USE
pagelock_error pagelock_lock_releasing(struct pagelock_page *page,
                                       pagelock_unlock_fn unlock,
                                       void *arg,
                                       const struct pagelock_limits *limits,
                                       struct pagelock_guard *guard)
PAGELOCK_NOEXCEPT;

// Unlocks the page; whether somebody had waited for that. The next owner sees what the caller did.
// The page is not touched once it is unlocked: whoever has it next may free the header.
bool pagelock_unlock(struct pagelock_guard guard) PAGELOCK_NOEXCEPT;

// `pagelock_unlock` that hands the page to those who sleep for it before any newcomer.
bool pagelock_unlock_fair(struct pagelock_guard guard) PAGELOCK_NOEXCEPT;

// Locks the page, or leaves word that somebody waits for it; never sleeps. For fault servers,
// whose faulters sleep elsewhere: the owner's release calls the platform's `tell`. The word is for
// one release, so claim again before every further wait.
PAGELOCK_MUST_USE
pagelock_claimed pagelock_claim(struct pagelock_page *page,
                                struct pagelock_guard *guard)
PAGELOCK_NOEXCEPT;

// `pagelock_claim` for a server whose own faulter sleeps as well: if the page is the caller's, its
// release tells in any case.
PAGELOCK_MUST_USE
pagelock_claimed pagelock_claim_told(struct pagelock_page *page,
                                     struct pagelock_guard *guard)
PAGELOCK_NOEXCEPT;

// Says that the contents are lost for good, and unlocks; whether somebody had waited.
bool pagelock_poison(struct pagelock_guard guard) PAGELOCK_NOEXCEPT;

// Undoes a poisoning, for memory that starts a new life: no references, no pins, still locked.
// Nobody may have anything of the old life: no reference or pin that is still to be put, no entry
// that leads here.
void pagelock_unpoison(struct pagelock_guard guard) PAGELOCK_NOEXCEPT;

// Writes your five bits, 0 to 31; the rest of `user` is dropped. Whoever reads them sees what the
// caller did before.
void pagelock_set_user(struct pagelock_guard guard, uint8_t user) PAGELOCK_NOEXCEPT;

// Whether somebody has the page, or it is kept for somebody. Old at once, as are the answers of
// the functions below.
bool pagelock_is_locked(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Whether its owner migrates it.
bool pagelock_is_migrating(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Whether its contents are lost.
bool pagelock_is_poisoned(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Whether a migration has frozen its counts.
bool pagelock_is_frozen(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// How many lockers sleep for it.
uint32_t pagelock_sleepers(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Your five bits. Whoever sees them sees what their writer did before.
uint8_t pagelock_user(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Waits until the page is released, holding neither the page-table lock nor a reference. Call it
// with the page-table lock, having found the page locked: `unlock(arg)` is called in any case,
// exactly once, before any sleep, and the page is not touched after that. `unlock` may be null, and
// so may `limits`.
pagelock_wake pagelock_wait_unlocked(struct pagelock_page *page,
                                     pagelock_unlock_fn unlock,
                                     void *arg,
                                     const struct pagelock_limits *limits)
PAGELOCK_NOEXCEPT;

// Waits until the migration of the page ends, well or not. As `pagelock_wait_unlocked`, but a page
// that is locked for anything else is not waited for.
pagelock_wake pagelock_wait_migration(struct pagelock_page *page,
                                      pagelock_unlock_fn unlock,
                                      void *arg,
                                      const struct pagelock_limits *limits)
PAGELOCK_NOEXCEPT;

// Makes a free page live, with `refs` references, which are the caller's to put. LIVE, FROZEN,
// POISONED, ZERO, OVERFLOW.
PAGELOCK_MUST_USE
pagelock_error pagelock_activate(struct pagelock_page *page,
                                 uint32_t refs)
PAGELOCK_NOEXCEPT;

// Takes a reference. FREE, FROZEN, POISONED, OVERFLOW.
PAGELOCK_MUST_USE pagelock_error pagelock_get(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Pins the page where it is. FREE, FROZEN, MIGRATING, POISONED, OVERFLOW.
PAGELOCK_MUST_USE pagelock_error pagelock_pin(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Gives back a reference that is the caller's. Whether the page is free by that: said to one
// caller, who frees its memory.
PAGELOCK_MUST_USE bool pagelock_put(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Gives back a pin that is the caller's. Whether the page is free by that.
PAGELOCK_MUST_USE bool pagelock_unpin(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// How many references the page has.
uint32_t pagelock_refs(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// How many pins the page has.
uint32_t pagelock_pins(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Announces that the page is about to move: pins are refused from now on, and
// `pagelock_wait_migration` waits. Takes the guard.
PAGELOCK_MUST_USE
struct pagelock_migration pagelock_begin_migration(struct pagelock_guard guard)
PAGELOCK_NOEXCEPT;

// Freezes the counts, if there are no pins and exactly `refs` references, or PAGELOCK_ANY_REFS.
// Takes the migration if it succeeds. PINNED, REFERENCED, FROZEN, POISONED.
//
// While somebody who holds a reference may be waiting for this very page, do not try again for
// ever: abort, and start over.
PAGELOCK_MUST_USE
pagelock_error pagelock_freeze(struct pagelock_migration migration,
                               uint32_t refs,
                               struct pagelock_frozen *frozen)
PAGELOCK_NOEXCEPT;

// `pagelock_freeze` that first waits until the page has no pins; meanwhile no references are given
// either. References are not waited for. `limits` may be null. Also TIMED_OUT or CANCELLED, with
// pins left, and NO_CLOCK.
PAGELOCK_MUST_USE
pagelock_error pagelock_freeze_unpinned(struct pagelock_migration migration,
                                        uint32_t refs,
                                        const struct pagelock_limits *limits,
                                        struct pagelock_frozen *frozen)
PAGELOCK_NOEXCEPT;

// Waits until the page has no pins, and does not freeze it. A pin that was under way may still
// come. `limits` may be null. TIMED_OUT, CANCELLED, POISONED, NO_CLOCK.
PAGELOCK_MUST_USE
pagelock_error pagelock_wait_unpinned(struct pagelock_migration migration,
                                      const struct pagelock_limits *limits)
PAGELOCK_NOEXCEPT;

// Ends the migration with the page where it was, and unlocks it; whether somebody had waited.
bool pagelock_abort(struct pagelock_migration migration) PAGELOCK_NOEXCEPT;

// Ends the migration with the page where it was, and keeps the lock. Those who wait for the
// migration are woken now.
PAGELOCK_MUST_USE
struct pagelock_guard pagelock_end_migration(struct pagelock_migration migration)
PAGELOCK_NOEXCEPT;

// Ends the migration of a page whose header stays, because only the memory behind it has changed:
// thawed, unlocked, all told. Entries have to be up before this. Whether somebody had waited.
bool pagelock_commit(struct pagelock_frozen frozen) PAGELOCK_NOEXCEPT;

// `pagelock_commit` that keeps the lock. Those who wait for the migration are woken now.
PAGELOCK_MUST_USE
struct pagelock_guard pagelock_commit_keeping(struct pagelock_frozen frozen)
PAGELOCK_NOEXCEPT;

// Ends the migration of a page whose identity moves to another header, `dst`: your five bits, and
// `refs` references, which must be the caller's own. Both are unlocked, and all told. Entries have
// to be up before this. `committed` may be null.
//
// Takes both if it succeeds. SAME_PAGE, POISONED, FROZEN, TOO_FEW, OVERFLOW.
PAGELOCK_MUST_USE
pagelock_error pagelock_commit_to(struct pagelock_frozen frozen,
                                  struct pagelock_guard dst,
                                  uint32_t refs,
                                  struct pagelock_committed *committed)
PAGELOCK_NOEXCEPT;

// Lets the counts move again, and goes back to the stage before.
PAGELOCK_MUST_USE
struct pagelock_migration pagelock_thaw(struct pagelock_frozen frozen)
PAGELOCK_NOEXCEPT;

// Says that the contents are lost for good (the copy has failed half-way), and unlocks.
bool pagelock_poison_frozen(struct pagelock_frozen frozen) PAGELOCK_NOEXCEPT;

// Makes what a dead owner has left the caller's.
//
// Whoever locked the page last, and has not released it, has died before this call, and nobody
// else takes over from it. If it is alive, there are two owners.
PAGELOCK_MUST_USE pagelock_stage pagelock_take_over(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Does what the dead owner was about to do: the page is poisoned, unlocked, and all are told.
// After `pagelock_take_over` has said POISONING.
void pagelock_finish_poisoning(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Leaves the page unpoisoned, for a survivor that knows that its contents are good. It is locked
// then: a `pagelock_guard`. After `pagelock_take_over` has said POISONING.
void pagelock_stop_poisoning(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Wakes everybody who may be asleep because of this page, after a death between a release and its
// wakes. Never wrong; it costs needless wakes. The caller does not own the page.
void pagelock_retell(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Strikes all who sleep for the page's lock, after one of them has died, or in the child after a
// fork. Nobody alive may be in a call that locks the page.
void pagelock_reset_sleepers(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Sets the platform of all pages, before the first of them is used, and once: BAD_PLATFORM,
// PLATFORM_SET. The table is not copied.
//
// Where no operating system is built in, a platform has to be set: until then, whoever has to wait
// spins.
PAGELOCK_MUST_USE
pagelock_error pagelock_set_platform(const struct pagelock_platform *platform)
PAGELOCK_NOEXCEPT;

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PAGELOCK_H */
