// Four threads fault on a page while it moves. capi/README.md shows this program.
#include <pagelock.h>
#include <pthread.h>
#include <stdio.h>

static struct pagelock_page page;                       // zeroed memory is an idle page
static pthread_mutex_t ptl = PTHREAD_MUTEX_INITIALIZER; // the page-table lock, and behind it
static int tier;                                        // the only entry: where the page is

static void unlock(void *mutex) { pthread_mutex_unlock(mutex); }

static void *fault(void *arg) {
    for (;;) {
        pthread_mutex_lock(&ptl);
        if (tier == 1) break; // resolved
        // The page is locked. Unlocks `ptl`, then sleeps until the owner is done; then look again.
        pagelock_wait_unlocked(&page, unlock, &ptl, NULL);
    }
    pthread_mutex_unlock(&ptl);
    return arg;
}

int main(void) {
    pthread_t faulters[4];
    if (pagelock_activate(&page, 1) != PAGELOCK_ERROR_OK) return 1; // one reference: the entry's
    struct pagelock_migration migration = pagelock_begin_migration(pagelock_lock(&page));
    for (int i = 0; i < 4; i++) {
        if (pthread_create(&faulters[i], NULL, fault, NULL) != 0) return 1;
    }
    struct pagelock_frozen frozen;
    pagelock_error error = pagelock_freeze(migration, 1, &frozen); // no pins, that one reference
    if (error == PAGELOCK_ERROR_OK) {
        pthread_mutex_lock(&ptl);
        tier = 1; // the bytes have moved: the new entry
        pthread_mutex_unlock(&ptl);
        pagelock_commit(frozen); // unlocks the page, and wakes the faulters
    } else {
        fprintf(stderr, "the page stays: %s\n", pagelock_error_text(error));
        pagelock_abort(migration); // unlocks and wakes too; these faulters would fault again
        return 1;
    }
    for (int i = 0; i < 4; i++) pthread_join(faulters[i], NULL);
    printf("4 faults are resolved: the page is in tier %d\n", tier);
}
