// The header in C++17, and what it keeps a program from doing: with -DMISTAKE=n this must not
// compile, each for the reason that ci/capi.sh looks for.

#include <cstdlib>
#include <mutex>
#include <thread>

#include "pagelock.h"

static pagelock_page page;
static std::mutex ptl;
static bool migrated;

static void unlock(void *mutex) noexcept { static_cast<std::mutex *>(mutex)->unlock(); }

#if MISTAKE == 1
static void throws(void *) { throw 1; }
#endif

// What a C++ program makes of a guard.
class Lock {
public:
    explicit Lock(pagelock_page &page) : guard(pagelock_lock(&page)) {}
    Lock(const Lock &) = delete;
    Lock &operator=(const Lock &) = delete;
    ~Lock() { pagelock_unlock(guard); }

private:
    pagelock_guard guard;
};

int main() {
    static_assert(sizeof(pagelock_page) == 8);
    static_assert(noexcept(pagelock_lock(&page)));
    if (pagelock_activate(&page, 1) != PAGELOCK_ERROR_OK) return 1;
    {
        Lock lock(page);
        pagelock_guard guard;
        if (pagelock_try_lock(&page, &guard) != PAGELOCK_ERROR_LOCKED) return 2;
    }
    pagelock_migration migration = pagelock_begin_migration(pagelock_lock(&page));
    std::thread migrator([migration] {
        pagelock_frozen frozen;
        if (pagelock_freeze(migration, 1, &frozen) != PAGELOCK_ERROR_OK) std::abort();
        ptl.lock();
        migrated = true;
        ptl.unlock();
        pagelock_commit(frozen);
    });
    for (;;) {
        ptl.lock();
        if (migrated) break;
        switch (pagelock_wait_migration(&page, unlock, &ptl, nullptr)) {
        case PAGELOCK_WAKE_RELEASED:
        case PAGELOCK_WAKE_NOT_LOCKED: break;
        default: return 3;
        }
    }
    ptl.unlock();
    migrator.join();
#if MISTAKE == 1
    pagelock_wait_unlocked(&page, throws, nullptr, nullptr);
#elif MISTAKE == 2
    pagelock_commit(pagelock_lock(&page));
#elif MISTAKE == 3
    pagelock_guard guard;
    pagelock_try_lock(&page, &guard);
#elif MISTAKE == 4
    pagelock_error error = PAGELOCK_WAKE_RELEASED;
#endif
    return pagelock_is_locked(&page);
}
