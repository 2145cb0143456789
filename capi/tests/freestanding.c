// A program without libc, start-up code or an operating system's help but for its last call: linked
// by -nostdlib, as a unikernel is. Its platform's `wait` runs the other side, as an interrupt would
// while the processor halts. The exit status is the number of the check that failed.

#include "pagelock.h"

static struct pagelock_page pages[2];
static struct pagelock_guard owner;
static unsigned halted, waked, told, let_go;

static int32_t halt(void *context, const uint32_t *word, uint32_t expected) {
    (void)context;
    if (__atomic_load_n(word, __ATOMIC_RELAXED) != expected) return PAGELOCK_SLEPT_CHANGED;
    halted++;
    if (owner.page) {
        struct pagelock_guard guard = owner;
        owner.page = 0;
        (void)pagelock_unlock(guard);
    }
    return PAGELOCK_SLEPT_UNKNOWN;
}
static void wake(void *context, const uint32_t *word) { (void)context, (void)word, waked++; }
static void tell(void *context, struct pagelock_page *page) {
    if (context == &told && page == &pages[0]) told++;
}
static void unlock(void *count) { ++*(unsigned *)count; }

static const struct pagelock_platform platform = {
    .size = sizeof platform,
    .context = &told,
    .wait = halt,
    .wake_one = wake,
    .wake_all = wake,
    .tell = tell,
};

#define CHECK(what)                 \
    do {                            \
        number++;                   \
        if (!(what)) return number; \
    } while (0)

static int work(void) {
    int number = 0;
    struct pagelock_guard guard;
    struct pagelock_frozen frozen;
    struct pagelock_limits soon = {.deadline = 1};
    struct pagelock_platform none = {.size = sizeof none}; // no operating system is built in
    CHECK(pagelock_set_platform(&none) == PAGELOCK_ERROR_BAD_PLATFORM);
    CHECK(pagelock_set_platform(&platform) == PAGELOCK_ERROR_OK);
    CHECK(pagelock_activate(&pages[0], 1) == PAGELOCK_ERROR_OK);
    owner = pagelock_lock(&pages[0]);
    CHECK(pagelock_try_lock(&pages[0], &guard) == PAGELOCK_ERROR_LOCKED);
    CHECK(pagelock_wait_unlocked(&pages[0], unlock, &let_go, 0) == PAGELOCK_WAKE_RELEASED);
    CHECK(halted == 1 && waked == 1 && told == 1 && let_go == 1);
    owner = pagelock_lock(&pages[0]);
    guard = pagelock_lock(&pages[0]); // halts, until the other side has unlocked
    CHECK(guard.page == &pages[0] && halted == 2);
    CHECK(pagelock_wait_unlocked(&pages[0], unlock, &let_go, &soon) == PAGELOCK_WAKE_NO_CLOCK &&
        let_go == 2);
    CHECK(pagelock_freeze(pagelock_begin_migration(guard), 1, &frozen) == PAGELOCK_ERROR_OK);
    CHECK(pagelock_commit_to(frozen, pagelock_lock(&pages[1]), 1, 0) == PAGELOCK_ERROR_OK);
    CHECK(pagelock_refs(&pages[1]) == 1 && pagelock_put(&pages[1]));
    CHECK(pagelock_error_text(PAGELOCK_ERROR_OK)[0] == 'd');
    return 0;
}

// exit_group(2), the one system call.
__attribute__((noreturn, used)) static void start(void) {
    int status = work();
#if defined(__x86_64__)
    __asm__ volatile("syscall" ::"a"(231), "D"(status));
#elif defined(__aarch64__)
    register long call __asm__("x8") = 94, first __asm__("x0") = status;
    __asm__ volatile("svc #0" ::"r"(call), "r"(first));
#endif
    __builtin_unreachable();
}

// The kernel pushes no return address, so the stack is aligned differently than a function expects.
#if defined(__x86_64__)
__asm__(".globl _start\n_start: and $-16, %rsp\n call start\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start: b start\n");
#endif
