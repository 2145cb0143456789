/* The page lock of an operating system's memory manager: eight bytes a page. C11, C++17.
 *
 * Made from the sources by cbindgen: change it there.
 *
 * Unless a function says otherwise: any thread may call it, for the same page as others do; a
 * pointer is not null; an error leaves everything as it was. What a function "takes" is not used
 * again. Errors are named without their PAGELOCK_ERROR_. */

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

/* An answer that the caller must look at. */
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

/* Decides about a page that a dead process had, see pagelock_segment_recover. */
struct pagelock_left;
typedef int32_t (*pagelock_decide_fn)(void *arg, const struct pagelock_left *left)
    PAGELOCK_NOEXCEPT;

#ifdef __cplusplus
}  // extern "C"
#endif


// The version of this header: major, minor, patch, eight bits each.
#define PAGELOCK_VERSION 0x00000100u

// Any number of references, as long as there are no pins: for `pagelock_freeze`.
#define PAGELOCK_ANY_REFS 0xffffffffu

// The page has an owner.
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

// A segment begins with "pagelock", ORDER in the machine's byte order, and VERSION.
#define PAGELOCK_SEGMENT_ORDER 0x01020304u

#define PAGELOCK_SEGMENT_VERSION 0x00000001u

// Where in a segment: how many seats there are, how many pages there can be, where the pages
// begin, how many there are, and your two words.
#define PAGELOCK_SEGMENT_SEATS_OFFSET 0x0000001cu

#define PAGELOCK_SEGMENT_CAPACITY_OFFSET 0x0000002cu

#define PAGELOCK_SEGMENT_PAGES_AT_OFFSET 0x00000038u

#define PAGELOCK_SEGMENT_PAGES_OFFSET 0x0000003cu

#define PAGELOCK_SEGMENT_WORDS_OFFSET 0x00000040u

// The event slots begin behind the head, of so many bytes; there are so many.
#define PAGELOCK_SEGMENT_HEAD_BYTES 0x00000100u

#define PAGELOCK_SEGMENT_SLOTS 0x00000080u

// Where the seats begin, of so many bytes each. The pages follow.
#define PAGELOCK_SEGMENT_SEATS_AT 0x00001000u

#define PAGELOCK_SEGMENT_SEAT_BYTES 0x00000400u

// Where in a seat its notes begin, how many there are, of so many bytes each.
#define PAGELOCK_SEAT_NOTES_OFFSET 0x00000040u

#define PAGELOCK_SEAT_NOTES 0x0000003cu

#define PAGELOCK_NOTE_BYTES 0x00000010u

// A page: its header, the word that names the seat that is changing a count, your word.
#define PAGELOCK_SEGMENT_PAGE_BYTES 0x00000010u

#define PAGELOCK_SEGMENT_PAGE_CHANGER_OFFSET 0x00000008u

#define PAGELOCK_SEGMENT_PAGE_WORD_OFFSET 0x0000000cu

// The most seats and pages of a segment, and segments of a process.
#define PAGELOCK_SEGMENT_MAX_SEATS 0x00000100u

#define PAGELOCK_SEGMENT_MAX_PAGES 0x10000000u

#define PAGELOCK_MAX_SEGMENTS 0x00000010u

// The byte of the file that the owner of seat 0 has locked (F_OFD_SETLK); that of seat n is n
// further. A survivor that recovers has locked the byte before.
#define PAGELOCK_SEGMENT_SEAT_LOCKS 0x10000000000u

// The first word of a note: what it is of, and how far. 0 is a free note.
#define PAGELOCK_NOTE_LOCK 0x00000001u

#define PAGELOCK_NOTE_REF 0x00000002u

#define PAGELOCK_NOTE_PIN 0x00000003u

#define PAGELOCK_NOTE_ASKED 0x00000100u

#define PAGELOCK_NOTE_HELD 0x00000200u

#define PAGELOCK_NOTE_GIVING 0x00000300u

#define PAGELOCK_NOTE_RESCUED 0x00000400u

#define PAGELOCK_NOTE_RAISING 0x00000500u

#define PAGELOCK_NOTE_LOWERING 0x00000600u

#define PAGELOCK_NOTE_GIVEN 0x00000700u

// Who owns the page now.
enum pagelock_claimed
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
  // Yours: `guard` was set.
  PAGELOCK_CLAIMED_OWNER = 0,
  // Another owner's, whose release tells.
  PAGELOCK_CLAIMED_IN_FLIGHT = 1,
  // No owner: the contents are lost, and there is nothing to wait for.
  PAGELOCK_CLAIMED_POISONED = 2,
};
#ifndef __cplusplus
typedef int32_t pagelock_claimed;
#endif // __cplusplus

// What becomes of a page that a dead process owned. Each unlocks the page and wakes all waiters.
enum pagelock_decision
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
  // Unlocks; a migration is aborted, a poisoning finished. Any number that is not below says
  // this too.
  PAGELOCK_DECISION_RELEASE = 0,
  // A frozen page is committed where it is. Otherwise as RELEASE.
  PAGELOCK_DECISION_COMMIT = 1,
  // The contents are lost.
  PAGELOCK_DECISION_POISON = 2,
  // A page in the middle of being poisoned is not, for its contents are good. Otherwise as
  // RELEASE.
  PAGELOCK_DECISION_STOP_POISONING = 3,
};
#ifndef __cplusplus
typedef int32_t pagelock_decision;
#endif // __cplusplus

// Why something was not done. Nothing has changed then, unless the function says otherwise.
enum pagelock_error
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
  // It was done.
  PAGELOCK_ERROR_OK = 0,
  // The page is locked, or kept for a locker that sleeps for it.
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
  // Not the size of a segment: no page or seat, or more than there can be.
  PAGELOCK_ERROR_SEGMENT_SIZE = 18,
  // The file does not begin as a segment does.
  PAGELOCK_ERROR_NO_SEGMENT = 19,
  // A segment of a machine with the other byte order.
  PAGELOCK_ERROR_FOREIGN_ENDIAN = 20,
  // A segment of another layout than PAGELOCK_SEGMENT_VERSION.
  PAGELOCK_ERROR_OTHER_LAYOUT = 21,
  // The numbers of the segment contradict each other.
  PAGELOCK_ERROR_INCONSISTENT = 22,
  // The segment's file is shorter than it says.
  PAGELOCK_ERROR_TRUNCATED = 23,
  // The file is no memfd that is sealed against shrinking.
  PAGELOCK_ERROR_NOT_SEALED = 24,
  // More pages than the segment has room for.
  PAGELOCK_ERROR_CAPACITY = 25,
  // This process has as many segments as it can.
  PAGELOCK_ERROR_TOO_MANY_SEGMENTS = 26,
  // The system has refused a call; `errno` says why.
  PAGELOCK_ERROR_SYSTEM = 27,
  // All seats are taken.
  PAGELOCK_ERROR_NO_SEAT = 28,
  // Every seat without an owner is of a dead one: recover first.
  PAGELOCK_ERROR_ONLY_DEAD = 29,
  // The segment was inherited by a fork: this process has to attach for itself.
  PAGELOCK_ERROR_FORKED = 30,
  // The segment has no such page, as far as this process has looked.
  PAGELOCK_ERROR_NO_SUCH_PAGE = 31,
  // The seat has no room for another note.
  PAGELOCK_ERROR_SEAT_FULL = 32,
  // Another survivor recovers, and may have begun before this death: call again.
  PAGELOCK_ERROR_RECOVERING = 33,
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

// What a dead owner has left. The survivor makes the named stage of it, with the page's address.
enum pagelock_stage
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
  // Nothing: the page had no owner.
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
  // The segment has no such page: said by `pagelock_seat_wait_unlocked` and
  // `pagelock_seat_wait_migration` alone.
  PAGELOCK_WAKE_NO_SUCH_PAGE = 6,
};
#ifndef __cplusplus
typedef int32_t pagelock_wake;
#endif // __cplusplus

// How far the dead one was with the page.
enum pagelock_when
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
  // It had just got the page, and done nothing with it.
  PAGELOCK_WHEN_TAKING = 0,
  // It was at work on it.
  PAGELOCK_WHEN_WORKING = 1,
  // It was letting go of the page: of a commit, the entries are up.
  PAGELOCK_WHEN_ENDING = 2,
  // Another survivor had the page, at work on it or letting go, and has died as well.
  PAGELOCK_WHEN_RESCUING = 3,
};
#ifndef __cplusplus
typedef int32_t pagelock_when;
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

// How long something may take. All zeroes, like a null pointer in place of it: as long as it
// takes.
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
  // The last references of the source have moved away: it is free. No other call reports it.
  bool source_is_free;
  // A thread had waited for the source.
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
  // sizeof(pagelock_platform): a program compiled with another header is refused.
  size_t size;
  // For the functions.
  void *context;
  // Sleeps while `*word` is `expected`, until woken; a PAGELOCK_SLEPT. May return at any time.
  // The comparison, an atomic load, and going to sleep are one step with respect to wakes: a
  // wake that comes after the word was changed is not missed by a thread that saw the old value.
  // The word is never stored to.
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
  // Called by a release of a page that a thread has waited for or claimed, after the library's
  // own sleepers were told. `page` is an address: the page is unlocked and may be gone.
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

// Pages, seats and an event table in a memfd, mapped into this process. Linux; not in the
// freestanding library.
//
// Made by `pagelock_segment_create` or `pagelock_segment_attach`, in memory of yours; it is not
// moved nor copied until `pagelock_segment_close`. Any threads may use it at once. A child that
// was forked attaches for itself.
//
// A process that has the descriptor can write every byte of the segment. Such a peer cannot make
// this process access anything outside of the segment, but it can make it wait, and memory that a
// page's lock guards is only as safe as the peers are honest.
typedef struct pagelock_segment {
  // The library's.
  uint64_t words[16];
} pagelock_segment;

// What a recovery came to.
typedef struct pagelock_recovered {
  // Seats of the dead.
  uint32_t seats;
  // Pages taken over from them: so often was `decide` called.
  uint32_t pages;
  // References given back.
  uint32_t refs;
  // Pins given back.
  uint32_t pins;
  // Pages that have become free by that. No other call reports them.
  uint32_t freed;
  // Pages whose waiters were woken again.
  uint32_t retold;
  // Notes with values that no note can have: their writer broke the protocol.
  uint32_t nonsense;
  // Notes left for the next time: a living thread was stopped while it took the page or let go
  // of it, or while it woke from a wait for the owner's end.
  uint32_t undecided;
} pagelock_recovered;

// One thread's place in a segment. It notes what the thread has to do with pages, so that a
// survivor knows what to end: up to PAGELOCK_SEAT_NOTES things at a time.
//
// Taken by `pagelock_seat_take`, in memory of yours; it is not moved nor copied until
// `pagelock_seat_leave`. One thread at a time uses it, and what was locked and counted through it.
typedef struct pagelock_seat {
  // The library's.
  uint64_t words[4];
} pagelock_seat;

// A page that a seat has locked.
typedef struct pagelock_seat_guard {
  // The library's.
  size_t words[4];
} pagelock_seat_guard;

// A reference that a seat has.
typedef struct pagelock_seat_ref {
  // The library's.
  size_t words[4];
} pagelock_seat_ref;

// A pin that a seat has.
typedef struct pagelock_seat_pin {
  // The library's.
  size_t words[4];
} pagelock_seat_pin;

// A page that a seat migrates.
typedef struct pagelock_seat_migration {
  // The library's.
  size_t words[4];
} pagelock_seat_migration;

// A page that a seat has frozen.
typedef struct pagelock_seat_frozen {
  // The library's.
  size_t words[4];
} pagelock_seat_frozen;

// A page that a dead process owned. The survivor has it until the decision.
typedef struct pagelock_left {
  // The seat of the dead.
  uint32_t seat;
  // The number of the page.
  uint32_t page;
  // What it had left by `pagelock_seat_set_tag`.
  uint32_t tag;
  // How far it was.
  pagelock_when when;
  // The stage that the page is in.
  pagelock_stage stage;
} pagelock_left;

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

// Throws the switch: every wait under it ends, present and future. A waiter that returns for that
// reason sees what the caller did before.
void pagelock_cancel_throw(struct pagelock_cancel *cancel) PAGELOCK_NOEXCEPT;

// Whether the switch is thrown.
bool pagelock_cancel_is_thrown(const struct pagelock_cancel *cancel) PAGELOCK_NOEXCEPT;

// Locks the page, sleeping until it can. A page whose contents are lost can be locked too.
PAGELOCK_MUST_USE struct pagelock_guard pagelock_lock(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Locks the page if that takes no sleep; LOCKED if another thread has it, or sleeps for it.
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
// `unlock` is called in any case, exactly once. `limits` may be null. TIMED_OUT, CANCELLED,
// NO_CLOCK.
PAGELOCK_MUST_USE
pagelock_error pagelock_lock_releasing(struct pagelock_page *page,
                                       pagelock_unlock_fn unlock,
                                       void *arg,
                                       const struct pagelock_limits *limits,
                                       struct pagelock_guard *guard)
PAGELOCK_NOEXCEPT;

// Unlocks the page; true if a thread had waited for that. The next owner sees what the caller did.
// The page is not touched once it is unlocked: the next owner may free the header.
bool pagelock_unlock(struct pagelock_guard guard) PAGELOCK_NOEXCEPT;

// `pagelock_unlock` that hands the page to the lockers that sleep for it before any newcomer.
bool pagelock_unlock_fair(struct pagelock_guard guard) PAGELOCK_NOEXCEPT;

// Locks the page, or leaves word that a fault waits for it; never sleeps. For fault servers, whose
// faulters sleep elsewhere: the owner's release calls the platform's `tell`. The word is for one
// release, so claim again before every further wait.
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

// Says that the contents are lost for good, and unlocks; true if a thread had waited.
bool pagelock_poison(struct pagelock_guard guard) PAGELOCK_NOEXCEPT;

// Undoes a poisoning, for memory that starts a new life: no references, no pins, still locked.
// Nothing of the old life may be left: no reference or pin that will still be put, no entry that
// leads here.
void pagelock_unpoison(struct pagelock_guard guard) PAGELOCK_NOEXCEPT;

// Writes your five bits, 0 to 31; the rest of `user` is dropped. A reader of the bits sees what
// the caller did before.
void pagelock_set_user(struct pagelock_guard guard, uint8_t user) PAGELOCK_NOEXCEPT;

// Whether the page has an owner, or is kept for a locker that sleeps. The answer, like those of
// the functions below, may be out of date at once.
bool pagelock_is_locked(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Whether its owner migrates it.
bool pagelock_is_migrating(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Whether its contents are lost.
bool pagelock_is_poisoned(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Whether a migration has frozen its counts.
bool pagelock_is_frozen(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// How many lockers sleep for it.
uint32_t pagelock_sleepers(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Your five bits. A reader sees what their writer did before.
uint8_t pagelock_user(const struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Waits until the page is released, holding neither the page-table lock nor a reference. Call it
// with the page-table lock, having found the page locked: `unlock(arg)` is called in any case,
// exactly once, before any sleep, and the page is not touched after that. `unlock` may be null,
// and so may `limits`.
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

// Gives back a reference that is the caller's. True to the one caller that made the page free by
// that, which frees its memory.
PAGELOCK_MUST_USE bool pagelock_put(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Gives back a pin that is the caller's. True to the one caller that made the page free by that.
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
// A thread that holds a reference may be waiting for this very page, so do not retry for ever:
// abort, and start over.
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

// Ends the migration with the page where it was, and unlocks it; true if a thread had waited.
bool pagelock_abort(struct pagelock_migration migration) PAGELOCK_NOEXCEPT;

// Ends the migration with the page where it was, and keeps the lock. Threads that wait for the
// migration are woken now.
PAGELOCK_MUST_USE
struct pagelock_guard pagelock_end_migration(struct pagelock_migration migration)
PAGELOCK_NOEXCEPT;

// Says that the contents are lost for good, and unlocks; true if a thread had waited.
bool pagelock_poison_migration(struct pagelock_migration migration) PAGELOCK_NOEXCEPT;

// Writes your five bits, as `pagelock_set_user`.
void pagelock_set_user_migration(struct pagelock_migration migration,
                                 uint8_t user)
PAGELOCK_NOEXCEPT;

// Writes your five bits, as `pagelock_set_user`.
void pagelock_set_user_frozen(struct pagelock_frozen frozen, uint8_t user) PAGELOCK_NOEXCEPT;

// Ends the migration of a page whose header stays, because only the memory behind it has changed:
// thawed, unlocked, waiters woken. Put the entries up before this. True if a thread had waited.
bool pagelock_commit(struct pagelock_frozen frozen) PAGELOCK_NOEXCEPT;

// `pagelock_commit` that keeps the lock. Threads that wait for the migration are woken now.
PAGELOCK_MUST_USE
struct pagelock_guard pagelock_commit_keeping(struct pagelock_frozen frozen)
PAGELOCK_NOEXCEPT;

// Ends the migration of a page whose identity moves to another header, `dst`: your five bits, and
// `refs` references, which must be the caller's own. Both are unlocked, and all waiters told. Put
// the entries up before this. `committed` may be null.
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

// Says that the contents are lost for good (the copy has failed half-way), and unlocks; true if a
// thread had waited.
bool pagelock_poison_frozen(struct pagelock_frozen frozen) PAGELOCK_NOEXCEPT;

// Makes the caller the owner of what a dead owner has left.
//
// The thread that locked the page last, and has not released it, died before this call, and only
// one survivor takes over from it. If that thread is alive, the page has two owners.
PAGELOCK_MUST_USE pagelock_stage pagelock_take_over(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Does what the dead owner was about to do: the page is poisoned, unlocked, and all waiters are
// told. After `pagelock_take_over` has said POISONING.
void pagelock_finish_poisoning(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Leaves the page unpoisoned, for a survivor that knows that its contents are good. It is locked
// then: a `pagelock_guard`. After `pagelock_take_over` has said POISONING.
void pagelock_stop_poisoning(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Wakes every thread that may be asleep because of this page, after a death between a release and
// its wakes. Never wrong; it costs needless wakes. The caller does not own the page.
void pagelock_retell(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Strikes out the count of threads that sleep for the page's lock, after one of them has died, or
// in the child after a fork. No living thread may be in a call that locks the page.
void pagelock_reset_sleepers(struct pagelock_page *page) PAGELOCK_NOEXCEPT;

// Sets the platform of all pages, before the first of them is used, and once: BAD_PLATFORM,
// PLATFORM_SET. The table is not copied.
//
// Where no operating system is built in, a platform has to be set: until then, a thread that has
// to wait spins.
PAGELOCK_MUST_USE
pagelock_error pagelock_set_platform(const struct pagelock_platform *platform)
PAGELOCK_NOEXCEPT;

// Makes a segment of `pages` pages, that can grow to `capacity`, for up to `seats` threads at a
// time; and maps it. The pages are unlocked and free. `name` is for humans. SEGMENT_SIZE,
// TOO_MANY_SEGMENTS, SYSTEM.
PAGELOCK_MUST_USE
pagelock_error pagelock_segment_create(const char *name,
                                       uint32_t pages,
                                       uint32_t capacity,
                                       uint32_t seats,
                                       struct pagelock_segment *segment)
PAGELOCK_NOEXCEPT;

// Maps the segment that `fd` is open on, having checked it: whatever the file is, it is accessed
// only if it is a segment. The descriptor stays the caller's: the segment opens the file anew,
// through /proc, for reading and writing. NO_SEGMENT, FOREIGN_ENDIAN, OTHER_LAYOUT, SEGMENT_SIZE,
// INCONSISTENT, TRUNCATED, NOT_SEALED, TOO_MANY_SEGMENTS, SYSTEM.
PAGELOCK_MUST_USE
pagelock_error pagelock_segment_attach(int fd,
                                       struct pagelock_segment *segment)
PAGELOCK_NOEXCEPT;

// Unmaps the segment and closes its descriptor. All seats of this process have been left. The file
// goes with the last descriptor of it.
void pagelock_segment_close(struct pagelock_segment *segment) PAGELOCK_NOEXCEPT;

// The segment's own descriptor; do not close it. To pass the segment on, open /proc/self/fd/N
// anew: while another process has a copy of this one, nobody sees this process die.
int pagelock_segment_fd(const struct pagelock_segment *segment) PAGELOCK_NOEXCEPT;

// How many pages there are, as far as this process has looked.
uint32_t pagelock_segment_pages(const struct pagelock_segment *segment) PAGELOCK_NOEXCEPT;

// How many pages there can be.
uint32_t pagelock_segment_capacity(const struct pagelock_segment *segment) PAGELOCK_NOEXCEPT;

// How many seats there are.
uint32_t pagelock_segment_seats(const struct pagelock_segment *segment) PAGELOCK_NOEXCEPT;

// Makes room for `pages` pages in all, if there is less, and looks how many there are now, as
// `pagelock_segment_refresh`. `now` may be null. CAPACITY, SYSTEM.
PAGELOCK_MUST_USE
pagelock_error pagelock_segment_grow(const struct pagelock_segment *segment,
                                     uint32_t pages,
                                     uint32_t *now)
PAGELOCK_NOEXCEPT;

// Looks how many pages there are now: another process may have made more. `now` may be null.
// SYSTEM.
PAGELOCK_MUST_USE
pagelock_error pagelock_segment_refresh(const struct pagelock_segment *segment,
                                        uint32_t *now)
PAGELOCK_NOEXCEPT;

// The header of a page, to be looked at: `pagelock_is_locked`, `pagelock_refs` and the like. Null
// if there is no such page. It is changed through seats alone.
const struct pagelock_page *pagelock_segment_page(const struct pagelock_segment *segment,
                                                  uint32_t page)
PAGELOCK_NOEXCEPT;

// Your word of a page, shared by all and accessed atomically; the library never looks at it. Null
// if there is no such page.
uint32_t *pagelock_segment_page_word(const struct pagelock_segment *segment,
                                     uint32_t page)
PAGELOCK_NOEXCEPT;

// One of your two words of the segment, `n` 0 or 1, as `pagelock_segment_page_word`; else null.
uint32_t *pagelock_segment_word(const struct pagelock_segment *segment,
                                uint32_t n)
PAGELOCK_NOEXCEPT;

// Ends what the dead have begun: `decide(arg, left)` is called for each page that one of them
// owned, with the page's stage, and says what becomes of it; references and pins are given back;
// waiters are woken. No living thread is stopped or robbed; a thread that is stopped lives.
// Without a death it looks at each seat, and that is all.
//
// `decide` takes no references or pins. It may be null, for RELEASE; so may `recovered`.
// RECOVERING, FORKED, SYSTEM.
PAGELOCK_MUST_USE
pagelock_error pagelock_segment_recover(const struct pagelock_segment *segment,
                                        pagelock_decide_fn decide,
                                        void *arg,
                                        struct pagelock_recovered *recovered)
PAGELOCK_NOEXCEPT;

// Sleeps until seat number `seat` has no owner; a signal ends the sleep too. `left` is set to
// whether there is something to recover. A dead owner with nothing noted leaves its seat free at
// once: if another thread takes it before this one wakes, the sleep lasts until that thread's end.
// SYSTEM, with EINVAL in `errno` if there is no such seat.
PAGELOCK_MUST_USE
pagelock_error pagelock_segment_wait_for_end_of(const struct pagelock_segment *segment,
                                                uint32_t seat,
                                                bool *left)
PAGELOCK_NOEXCEPT;

// Takes a seat without an owner, for the calling thread. NO_SEAT, ONLY_DEAD, FORKED, SYSTEM.
PAGELOCK_MUST_USE
pagelock_error pagelock_seat_take(const struct pagelock_segment *segment,
                                  struct pagelock_seat *seat)
PAGELOCK_NOEXCEPT;

// Gives the seat up. What was locked or counted through it has been given back; if not, the seat
// stays taken until the process ends, and is recovered as that of a dead one.
void pagelock_seat_leave(struct pagelock_seat *seat) PAGELOCK_NOEXCEPT;

// Which seat it is, from 0.
uint32_t pagelock_seat_number(const struct pagelock_seat *seat) PAGELOCK_NOEXCEPT;

// How many more things it can note.
uint32_t pagelock_seat_room(const struct pagelock_seat *seat) PAGELOCK_NOEXCEPT;

// Locks page number `page`, sleeping until it can. NO_SUCH_PAGE, SEAT_FULL.
PAGELOCK_MUST_USE
pagelock_error pagelock_seat_lock(const struct pagelock_seat *seat,
                                  uint32_t page,
                                  struct pagelock_seat_guard *guard)
PAGELOCK_NOEXCEPT;

// Locks the page if that takes no sleep. LOCKED, NO_SUCH_PAGE, SEAT_FULL.
PAGELOCK_MUST_USE
pagelock_error pagelock_seat_try_lock(const struct pagelock_seat *seat,
                                      uint32_t page,
                                      struct pagelock_seat_guard *guard)
PAGELOCK_NOEXCEPT;

// Locks the page, sleeping no longer than `limits` allow; a deadline is on CLOCK_MONOTONIC here,
// whatever platform was set. TIMED_OUT, CANCELLED, NO_SUCH_PAGE, SEAT_FULL.
PAGELOCK_MUST_USE
pagelock_error pagelock_seat_lock_within(const struct pagelock_seat *seat,
                                         uint32_t page,
                                         const struct pagelock_limits *limits,
                                         struct pagelock_seat_guard *guard)
PAGELOCK_NOEXCEPT;

// `pagelock_wait_unlocked` for a page of the segment. Also PAGELOCK_WAKE_NO_SUCH_PAGE; `unlock` is
// called then too.
pagelock_wake pagelock_seat_wait_unlocked(const struct pagelock_seat *seat,
                                          uint32_t page,
                                          pagelock_unlock_fn unlock,
                                          void *arg,
                                          const struct pagelock_limits *limits)
PAGELOCK_NOEXCEPT;

// `pagelock_wait_migration` for a page of the segment. Also PAGELOCK_WAKE_NO_SUCH_PAGE; `unlock`
// is called then too.
pagelock_wake pagelock_seat_wait_migration(const struct pagelock_seat *seat,
                                           uint32_t page,
                                           pagelock_unlock_fn unlock,
                                           void *arg,
                                           const struct pagelock_limits *limits)
PAGELOCK_NOEXCEPT;

// Makes a free page live, with one reference, which is the seat's. LIVE, FROZEN, POISONED,
// NO_SUCH_PAGE, SEAT_FULL.
PAGELOCK_MUST_USE
pagelock_error pagelock_seat_activate(const struct pagelock_seat *seat,
                                      uint32_t page,
                                      struct pagelock_seat_ref *reference)
PAGELOCK_NOEXCEPT;

// Takes a reference. FREE, FROZEN, POISONED, OVERFLOW, NO_SUCH_PAGE, SEAT_FULL.
PAGELOCK_MUST_USE
pagelock_error pagelock_seat_try_get(const struct pagelock_seat *seat,
                                     uint32_t page,
                                     struct pagelock_seat_ref *reference)
PAGELOCK_NOEXCEPT;

// Pins the page where it is. FREE, FROZEN, MIGRATING, POISONED, OVERFLOW, NO_SUCH_PAGE, SEAT_FULL.
PAGELOCK_MUST_USE
pagelock_error pagelock_seat_try_pin(const struct pagelock_seat *seat,
                                     uint32_t page,
                                     struct pagelock_seat_pin *pin)
PAGELOCK_NOEXCEPT;

// Gives the reference back. True to the one caller that made the page free by that.
PAGELOCK_MUST_USE bool pagelock_seat_put(struct pagelock_seat_ref reference) PAGELOCK_NOEXCEPT;

// Gives the pin back. True to the one caller that made the page free by that.
PAGELOCK_MUST_USE bool pagelock_seat_unpin(struct pagelock_seat_pin pin) PAGELOCK_NOEXCEPT;

// Keeps the reference and strikes its note out: it is a page table's, say, and outlives this
// process. `pagelock_seat_adopt_ref` makes it a seat's again.
void pagelock_seat_leave_ref(struct pagelock_seat_ref reference) PAGELOCK_NOEXCEPT;

// Makes a reference that was left this seat's; one caller does so for each that was left.
// NO_SUCH_PAGE, SEAT_FULL.
PAGELOCK_MUST_USE
pagelock_error pagelock_seat_adopt_ref(const struct pagelock_seat *seat,
                                       uint32_t page,
                                       struct pagelock_seat_ref *reference)
PAGELOCK_NOEXCEPT;

// Keeps the pin and strikes its note out, as `pagelock_seat_leave_ref`: a device's, say.
void pagelock_seat_leave_pin(struct pagelock_seat_pin pin) PAGELOCK_NOEXCEPT;

// Makes a pin that was left this seat's; one caller does so for each that was left. NO_SUCH_PAGE,
// SEAT_FULL.
PAGELOCK_MUST_USE
pagelock_error pagelock_seat_adopt_pin(const struct pagelock_seat *seat,
                                       uint32_t page,
                                       struct pagelock_seat_pin *pin)
PAGELOCK_NOEXCEPT;

// Unlocks the page; true if a thread had waited for that.
bool pagelock_seat_unlock(struct pagelock_seat_guard guard) PAGELOCK_NOEXCEPT;

// Leaves a word for a survivor that may have to recover this page: where its bytes are going, for
// instance. It is 0 to begin with, and stays through the stages of a migration.
void pagelock_seat_set_tag(struct pagelock_seat_guard guard, uint32_t tag) PAGELOCK_NOEXCEPT;

// Writes your five bits, as `pagelock_set_user`.
void pagelock_seat_set_user(struct pagelock_seat_guard guard, uint8_t user) PAGELOCK_NOEXCEPT;

// `pagelock_seat_set_tag` while the page migrates.
void pagelock_seat_set_tag_migration(struct pagelock_seat_migration migration,
                                     uint32_t tag)
PAGELOCK_NOEXCEPT;

// `pagelock_seat_set_tag` while the page is frozen.
void pagelock_seat_set_tag_frozen(struct pagelock_seat_frozen frozen,
                                  uint32_t tag)
PAGELOCK_NOEXCEPT;

// Writes your five bits, as `pagelock_set_user`.
void pagelock_seat_set_user_migration(struct pagelock_seat_migration migration,
                                      uint8_t user)
PAGELOCK_NOEXCEPT;

// Writes your five bits, as `pagelock_set_user`.
void pagelock_seat_set_user_frozen(struct pagelock_seat_frozen frozen,
                                   uint8_t user)
PAGELOCK_NOEXCEPT;

// Says that the contents are lost for good, and unlocks; true if a thread had waited.
bool pagelock_seat_poison(struct pagelock_seat_guard guard) PAGELOCK_NOEXCEPT;

// Announces that the page is about to move, as `pagelock_begin_migration`. Takes the guard.
PAGELOCK_MUST_USE
struct pagelock_seat_migration pagelock_seat_begin_migration(struct pagelock_seat_guard guard)
PAGELOCK_NOEXCEPT;

// Freezes the counts, as `pagelock_freeze`. Takes the migration if it succeeds. PINNED,
// REFERENCED, FROZEN, POISONED.
PAGELOCK_MUST_USE
pagelock_error pagelock_seat_freeze(struct pagelock_seat_migration migration,
                                    uint32_t refs,
                                    struct pagelock_seat_frozen *frozen)
PAGELOCK_NOEXCEPT;

// `pagelock_seat_freeze` that first waits until the page has no pins, as
// `pagelock_freeze_unpinned`. Also TIMED_OUT or CANCELLED, with pins left.
PAGELOCK_MUST_USE
pagelock_error pagelock_seat_freeze_unpinned(struct pagelock_seat_migration migration,
                                             uint32_t refs,
                                             const struct pagelock_limits *limits,
                                             struct pagelock_seat_frozen *frozen)
PAGELOCK_NOEXCEPT;

// Waits until the page has no pins, and does not freeze it, as `pagelock_wait_unpinned`. `limits`
// may be null. TIMED_OUT, CANCELLED, POISONED.
PAGELOCK_MUST_USE
pagelock_error pagelock_seat_wait_unpinned(struct pagelock_seat_migration migration,
                                           const struct pagelock_limits *limits)
PAGELOCK_NOEXCEPT;

// Says that the contents are lost for good, and unlocks; true if a thread had waited.
bool pagelock_seat_poison_migration(struct pagelock_seat_migration migration) PAGELOCK_NOEXCEPT;

// Ends the migration with the page where it was, and unlocks it; true if a thread had waited.
bool pagelock_seat_abort(struct pagelock_seat_migration migration) PAGELOCK_NOEXCEPT;

// Ends the migration with the page where it was, and keeps the lock.
PAGELOCK_MUST_USE
struct pagelock_seat_guard pagelock_seat_end_migration(struct pagelock_seat_migration migration)
PAGELOCK_NOEXCEPT;

// Ends the migration of a page whose header stays, as `pagelock_commit`. True if a thread had
// waited.
bool pagelock_seat_commit(struct pagelock_seat_frozen frozen) PAGELOCK_NOEXCEPT;

// `pagelock_seat_commit` that keeps the lock.
PAGELOCK_MUST_USE
struct pagelock_seat_guard pagelock_seat_commit_keeping(struct pagelock_seat_frozen frozen)
PAGELOCK_NOEXCEPT;

// Ends the migration of a page whose identity moves to another header, `dst`, of the same segment:
// your five bits; references stay. Both are unlocked, and all told. `committed` may be null.
//
// Takes both if it succeeds. SAME_PAGE, POISONED, FROZEN.
PAGELOCK_MUST_USE
pagelock_error pagelock_seat_commit_to(struct pagelock_seat_frozen frozen,
                                       struct pagelock_seat_guard dst,
                                       struct pagelock_committed *committed)
PAGELOCK_NOEXCEPT;

// Lets the counts move again, and goes back to the stage before.
PAGELOCK_MUST_USE
struct pagelock_seat_migration pagelock_seat_thaw(struct pagelock_seat_frozen frozen)
PAGELOCK_NOEXCEPT;

// Says that the contents are lost for good (the copy has failed half-way), and unlocks; true if a
// thread had waited.
bool pagelock_seat_poison_frozen(struct pagelock_seat_frozen frozen) PAGELOCK_NOEXCEPT;

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PAGELOCK_H */
