// Segments from a hostile peer. Each file is refused with the error that the header says, or is a
// segment, whatever else its bytes say; and while this process writes nonsense all over a segment
// that another works on, that one gets wrong answers, and no signal. With `control` that other one
// touches what it must not, which has to be found out.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "pagelock.h"
#include "check.h"

enum { PAGES = 10, SEATS = 2, RANDOM = 3000, SCRIBBLES = 20 };
enum {
    BYTES = PAGELOCK_SEGMENT_SEATS_AT + SEATS * PAGELOCK_SEGMENT_SEAT_BYTES +
    PAGES * PAGELOCK_SEGMENT_PAGE_BYTES
};

static unsigned char good[BYTES];

// A file without a name that holds `n` bytes.
static int file_of(const void *bytes, size_t n, int seals) {
    int fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && write(fd, bytes, n) == (ssize_t)n && fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

static pagelock_error attach(int fd, struct pagelock_segment *segment) {
    pagelock_error error = pagelock_segment_attach(fd, segment);
    CHECK(close(fd) == 0);
    return error;
}

// The file whose word at `offset` is `value`.
static pagelock_error with(uint32_t offset, uint32_t value) {
    unsigned char bytes[BYTES];
    struct pagelock_segment segment;
    memcpy(bytes, good, BYTES);
    memcpy(bytes + offset, &value, 4);
    return attach(file_of(bytes, BYTES, F_SEAL_SHRINK), &segment);
}

static unsigned refusals(void) {
    struct pagelock_segment segment;
    unsigned char zeroes[BYTES] = {0};
    unsigned tried = 0;
#define REFUSED(attempt, error)                     \
    do {                                            \
        tried++;                                    \
        CHECK((attempt) == PAGELOCK_ERROR_##error); \
    } while (0)
    REFUSED(attach(file_of("", 0, F_SEAL_SHRINK), &segment), NO_SEGMENT);
    REFUSED(attach(file_of(good, 63, F_SEAL_SHRINK), &segment), NO_SEGMENT);
    REFUSED(attach(file_of(zeroes, BYTES, F_SEAL_SHRINK), &segment), NO_SEGMENT);
    REFUSED(with(0, 1), NO_SEGMENT);
    REFUSED(with(8, 0x04030201), FOREIGN_ENDIAN);
    REFUSED(with(8, 0), OTHER_LAYOUT);
    REFUSED(with(12, PAGELOCK_SEGMENT_VERSION + 1), OTHER_LAYOUT);
    for (uint32_t offset = 16; offset < 60; offset += 4) {
        uint32_t was;
        memcpy(&was, good + offset, 4);
        bool is_size =
            offset == PAGELOCK_SEGMENT_SEATS_OFFSET || offset == PAGELOCK_SEGMENT_CAPACITY_OFFSET;
        if (is_size) {
            REFUSED(with(offset, 0), SEGMENT_SIZE);
            REFUSED(with(offset, UINT32_MAX), SEGMENT_SIZE);
        } else {
            REFUSED(with(offset, was + 16), INCONSISTENT);
        }
    }
    REFUSED(with(PAGELOCK_SEGMENT_SEATS_OFFSET, SEATS + 1), INCONSISTENT);
    REFUSED(with(PAGELOCK_SEGMENT_PAGES_OFFSET, UINT32_MAX), SEGMENT_SIZE);
    REFUSED(with(PAGELOCK_SEGMENT_PAGES_OFFSET, PAGES + 1), TRUNCATED);
    REFUSED(attach(file_of(good, BYTES - 1, F_SEAL_SHRINK), &segment), TRUNCATED);
    REFUSED(attach(file_of(good, BYTES, 0), &segment), NOT_SEALED);
    REFUSED(attach(file_of(good, BYTES, F_SEAL_GROW), &segment), NOT_SEALED);
    REFUSED(attach(open("/dev/null", O_RDWR), &segment), NOT_SEALED);
    FILE *on_disk = tmpfile();
    CHECK(on_disk && fwrite(good, BYTES, 1, on_disk) == 1 && fflush(on_disk) == 0);
    REFUSED(attach(dup(fileno(on_disk)), &segment), NOT_SEALED);
    fclose(on_disk);
    errno = 0;
    REFUSED(pagelock_segment_attach(-1, &segment), SYSTEM);
    CHECK(errno == EBADF);
    REFUSED(pagelock_segment_attach(1000000, &segment), SYSTEM);
    CHECK(errno == EBADF);
    // The good one is none of these.
    OK(attach(file_of(good, BYTES, F_SEAL_SHRINK), &segment));
    pagelock_segment_close(&segment);
    return tried;
}

// What can be asked of a segment, with no answer expected; no longer than some milliseconds, unless
// it waits for a count, which a peer can keep.
static void use(struct pagelock_segment *segment, uint32_t number) {
    struct pagelock_seat seat;
    struct pagelock_seat_guard guard;
    struct pagelock_seat_pin pin;
    struct pagelock_seat_ref reference;
    struct pagelock_limits soon = {.deadline = pagelock_now() + 20000};
    uint32_t page = number % (2 * PAGES);
    (void)!pagelock_segment_refresh(segment, NULL);
    (void)!pagelock_segment_recover(segment, NULL, NULL, NULL);
    if (pagelock_seat_take(segment, &seat) != PAGELOCK_ERROR_OK) return;
    if (pagelock_seat_lock_within(&seat, page, &soon, &guard) == PAGELOCK_ERROR_OK) {
        struct pagelock_seat_frozen frozen;
        struct pagelock_seat_migration migration = pagelock_seat_begin_migration(guard);
        if (pagelock_seat_freeze(migration, PAGELOCK_ANY_REFS, &frozen) == PAGELOCK_ERROR_OK)
            pagelock_seat_commit(frozen);
        else
            pagelock_seat_abort(migration);
    }
    pagelock_seat_wait_unlocked(&seat, page, NULL, NULL, &soon);
    if (pagelock_seat_try_pin(&seat, page, &pin) == PAGELOCK_ERROR_OK)
        (void)!pagelock_seat_unpin(pin);
    if (pagelock_seat_activate(&seat, page, &reference) == PAGELOCK_ERROR_OK)
        (void)!pagelock_seat_put(reference);
    pagelock_seat_leave(&seat);
}

// Files that are nearly right: refused, or used. `changer` names no living seat.
static void nearly(void) {
    uint32_t seed = 88172645u;
    unsigned attached = 0;
    for (int i = 0; i < RANDOM; i++) {
        unsigned char bytes[BYTES];
        struct pagelock_segment segment;
        memcpy(bytes, good, BYTES);
        for (uint32_t n = next_number(&seed) % 20 + 1; n > 0; n--) {
            uint32_t any = next_number(&seed), where = next_number(&seed) % (BYTES / 4) * 4;
            if (any % 8 == 0) where = any / 8 % 20 * 4; // near the top
            if (any % 4 == 1) any = next_number(&seed) % 0x800; // what a note may say
            memcpy(bytes + where, &any, 4);
        }
        for (uint32_t page = 0; page < PAGES; page++)
            memset(bytes + BYTES - 16 * PAGES + 16 * page + PAGELOCK_SEGMENT_PAGE_CHANGER_OFFSET, 0,
                4);
        if (attach(file_of(bytes, BYTES, F_SEAL_SHRINK), &segment) != PAGELOCK_ERROR_OK) continue;
        attached++;
        for (uint32_t page = 0; page < PAGES; page++) use(&segment, page);
        pagelock_segment_close(&segment);
    }
    printf("%d files that are nearly right: %u attached and used, the others refused\n", RANDOM,
        attached);
    CHECK(attached > 0 && attached < RANDOM);
}

static unsigned scribble(const char *role) {
    struct pagelock_segment segment;
    uint32_t seed = 2463534242u;
    unsigned signals = 0;
    for (int round = 0; round < SCRIBBLES; round++) {
        OK(pagelock_segment_create("scribbled", PAGES, 2 * PAGES, SEATS, &segment));
        uint32_t *words =
            mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, pagelock_segment_fd(&segment), 0);
        CHECK(words != MAP_FAILED);
        int passed = dup(pagelock_segment_fd(&segment));
        pid_t child = fork();
        if (child == 0) {
            char fd[16];
            snprintf(fd, sizeof fd, "%d", passed);
            execl("/proc/self/exe", "hostile", role, fd, (char *)NULL);
            _exit(127);
        }
        CHECK(child > 0 && close(passed) == 0);
        while (words[PAGELOCK_SEGMENT_WORDS_OFFSET / 4] == 0) usleep(100); // it has attached
        for (int n = 0; n < 200; n++) {
            for (int i = 0; i < 50; i++) {
                uint32_t any = next_number(&seed);
                if (any % 2) any = next_number(&seed) % 0x800;
                if (any % 8 == 1) any = 0; // or nothing would ever be had
                __atomic_store_n(&words[next_number(&seed) % (BYTES / 4)], any, __ATOMIC_RELAXED);
            }
            usleep(100);
        }
        int status;
        CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child);
        signals += !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        munmap(words, BYTES);
        pagelock_segment_close(&segment);
    }
    return signals;
}

static void work(int fd, bool touches) {
    struct pagelock_segment segment;
    OK(pagelock_segment_attach(fd, &segment));
    *pagelock_segment_word(&segment, 0) = 1;
    // One page more than there is, as it would be with a number that is not checked.
    if (touches) *(volatile uint32_t *)((char *)pagelock_segment_page(&segment, 0) + (1 << 20)) = 1;
    for (uint32_t number = 0;; number++) use(&segment, number);
}

int main(int argc, char **argv) {
    watchdog();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3) work(atoi(argv[2]), strcmp(argv[1], "control") == 0);
    struct pagelock_segment segment;
    OK(pagelock_segment_create("good", PAGES, 2 * PAGES, SEATS, &segment));
    CHECK(pread(pagelock_segment_fd(&segment), good, BYTES, 0) == BYTES);
    pagelock_segment_close(&segment);
    if (argc == 2) {
        CHECK(scribble(argv[1]) == 0);
        return 0;
    }
    printf("%u files refused, each with its error\n", refusals());
    nearly();
    CHECK(scribble("work") == 0);
    printf("%d processes worked on segments that were written all over\n", SCRIBBLES);
    return 0;
}
