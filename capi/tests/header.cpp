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

#ifdef __linux__
// And of a segment, a seat and its guard.
class Segment {
  public:
    Segment() : error(pagelock_segment_create("c++", 4, 4, 2, &segment)) {}
    Segment(const Segment &) = delete;
    Segment &operator=(const Segment &) = delete;
    ~Segment() {
        if (error == PAGELOCK_ERROR_OK) pagelock_segment_close(&segment);
    }

    pagelock_segment segment;
    const pagelock_error error;
};

static int segments() {
    static_assert(noexcept(pagelock_segment_recover(nullptr, nullptr, nullptr, nullptr)));
    Segment of;
    pagelock_seat seat;
    pagelock_seat_guard guard;
    if (of.error != PAGELOCK_ERROR_OK ||
        pagelock_seat_take(&of.segment, &seat) != PAGELOCK_ERROR_OK)
        return 4;
    if (pagelock_seat_lock(&seat, 3, &guard) != PAGELOCK_ERROR_OK) return 5;
    if (!pagelock_is_locked(pagelock_segment_page(&of.segment, 3))) return 6;
    pagelock_seat_unlock(guard);
    pagelock_seat_leave(&seat);
#if MISTAKE == 5
    pagelock_guard past_the_seat = pagelock_lock(pagelock_segment_page(&of.segment, 3));
#elif MISTAKE == 6
    pagelock_seat_commit(guard);
#elif MISTAKE == 7
    pagelock_segment_recover(
        &of.segment, [](void *, const pagelock_left *) { return 0; }, nullptr, nullptr);
#endif
    return 0;
}
#else
static int segments() { return 0; }
#endif

int main() {
    static_assert(sizeof(pagelock_page) == 8);
    if (int failed = segments()) return failed;
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
