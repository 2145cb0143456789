// Post-copy: a guest runs here while its memory still arrives from another host, page by page.
// Several threads serve faults, and one fetches ahead. The page's lock makes them fetch every page
// once, and no virtual processor sleeps on: its fault is woken when the page's owner is done,
// whether the fetch worked or not. The part to read is from `tell` to `fetch_ahead`, 60 lines.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <pagelock.h>

enum { PAGE = 4096, PAGES = 2048, SERVERS = 3, VCPUS = 4, PRESENT = 1 };

struct ram {
    char *host;                          // where the guest's memory is
    struct pagelock_page headers[PAGES]; // eight bytes for each page of it, zeroed
    int uffd, quit;
};

static struct ram ram;
static atomic_uint requests[PAGES], failures, in_flight, late;

static int fetch(size_t i, char *page);

// Called by a release that a fault waits for: wakes the virtual processors that faulted there.
static void tell(void *context, struct pagelock_page *header) {
    struct ram *ram = context;
    struct uffdio_range range = {(uintptr_t)ram->host + PAGE * (header - ram->headers), PAGE};
    if (ioctl(ram->uffd, UFFDIO_WAKE, &range) != 0) perror("UFFDIO_WAKE");
}

// Puts the page where the guest sees it. The release wakes, so this does not.
static int place(struct ram *ram, size_t i, char *page) {
    struct uffdio_copy copy = {.dst = (uintptr_t)ram->host + PAGE * i, .src = (uintptr_t)page};
    copy.len = PAGE, copy.mode = UFFDIO_COPY_MODE_DONTWAKE;
    while (ioctl(ram->uffd, UFFDIO_COPY, &copy) != 0) {
        if (errno != EAGAIN) return -errno;
    }
    return 0;
}

// Brings the page in, unless another thread does. Never sleeps for the page.
static void serve(
    struct ram *ram, size_t i, pagelock_claimed claimed, struct pagelock_guard guard) {
    _Alignas(PAGE) char page[PAGE];
    switch (claimed) {
    case PAGELOCK_CLAIMED_IN_FLIGHT: // its owner's release calls `tell`: go and serve the next
        atomic_fetch_add(&in_flight, 1);
        return;
    case PAGELOCK_CLAIMED_POISONED: return;
    default: break;
    }
    if (pagelock_user(&ram->headers[i]) & PRESENT) {
        atomic_fetch_add(&late, 1); // the page arrived between the fault and its message
    } else if (fetch(i, page) != 0 || place(ram, i, page) != 0) {
        atomic_fetch_add(&failures, 1); // not present: the guest faults again, and so we retry
    } else {
        pagelock_set_user(guard, PRESENT);
    }
    pagelock_unlock(guard); // calls `tell` if a fault waits
}

static void *serve_faults(void *arg) {
    struct ram *ram = arg;
    struct pollfd fds[] = {{ram->uffd, POLLIN, 0}, {ram->quit, POLLIN, 0}};
    while (poll(fds, 2, -1) >= 0 && !fds[1].revents) {
        struct uffd_msg msg;
        struct pagelock_guard guard = {0};
        if (read(ram->uffd, &msg, sizeof msg) != sizeof msg) continue; // another thread has it
        if (msg.event != UFFD_EVENT_PAGEFAULT) continue;
        size_t i = (msg.arg.pagefault.address - (uintptr_t)ram->host) / PAGE;
        // `told`: the processor that faulted sleeps too, and this message alone says so.
        pagelock_claimed claimed = pagelock_claim_told(&ram->headers[i], &guard);
        serve(ram, i, claimed, guard);
    }
    return NULL;
}

static void *fetch_ahead(void *arg) {
    struct ram *ram = arg;
    for (size_t i = 0; i < PAGES; i++) {
        struct pagelock_guard guard;
        // No fault waits for this thread: it skips a page that another thread has.
        if (pagelock_try_lock(&ram->headers[i], &guard) != PAGELOCK_ERROR_OK) continue;
        serve(ram, i, PAGELOCK_CLAIMED_OWNER, guard);
    }
    return NULL;
}

// The other machine. It fails now and then.
static int fetch(size_t i, char *page) {
    unsigned before = atomic_fetch_add(&requests[i], 1);
    usleep(50);
    if (i % 16 == 3 && before == 0) return -EIO;
    for (size_t at = 0; at < PAGE; at += sizeof i) memcpy(page + at, &i, sizeof i);
    return 0;
}

// A processor of the guest: looks at every page, in an order of its own.
static void *vcpu(void *arg) {
    size_t step = 2 * (uintptr_t)arg + 1, wrong = 0;
    for (size_t n = 0; n < PAGES; n++) {
        size_t i = (n * step + 977 * step) % PAGES, found;
        memcpy(&found, ram.host + PAGE * i + PAGE / 2, sizeof found);
        wrong += found != i;
    }
    return (void *)wrong;
}

int main(void) {
    alarm(120); // an end, should anybody sleep on
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    struct uffdio_api api = {.api = UFFD_API};
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0) {
        perror("no userfaultfd here");
        return 77;
    }
    ram.uffd = uffd;
    ram.quit = eventfd(0, EFD_CLOEXEC);
    ram.host = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register region = {
        .range = {(uintptr_t)ram.host, PAGES * PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ram.host == MAP_FAILED || ioctl(uffd, UFFDIO_REGISTER, &region) != 0) {
        perror("memory");
        return 1;
    }
    // Sleeping and waking stay the operating system's; the table adds `tell`.
    static const struct pagelock_platform platform = {
        .size = sizeof platform, .context = &ram, .tell = tell};
    pagelock_error error = pagelock_set_platform(&platform);
    if (error != PAGELOCK_ERROR_OK) {
        fprintf(stderr, "%s\n", pagelock_error_text(error));
        return 1;
    }
    pthread_t servers[SERVERS], ahead, vcpus[VCPUS];
    for (int i = 0; i < SERVERS; i++) pthread_create(&servers[i], NULL, serve_faults, &ram);
    for (uintptr_t i = 0; i < VCPUS; i++) pthread_create(&vcpus[i], NULL, vcpu, (void *)i);
    pthread_create(&ahead, NULL, fetch_ahead, &ram);
    size_t wrong = 0, once = 0, twice = 0, more = 0;
    for (int i = 0; i < VCPUS; i++) {
        void *found;
        pthread_join(vcpus[i], &found);
        wrong += (size_t)found;
    }
    pthread_join(ahead, NULL);
    if (write(ram.quit, &(uint64_t){1}, 8) != 8) perror("quit");
    for (int i = 0; i < SERVERS; i++) pthread_join(servers[i], NULL);
    for (int i = 0; i < PAGES; i++) {
        once += requests[i] == 1;
        twice += requests[i] == 2;
        more += requests[i] > 2;
    }
    printf("%d pages: %zu asked for once, %zu twice (%u failures), %zu more often; "
           "%u faults on a page in flight, %u late; %zu words wrong\n",
        PAGES, once, twice, failures, more, in_flight, late, wrong);
    return wrong != 0 || more != 0 || twice != failures;
}
