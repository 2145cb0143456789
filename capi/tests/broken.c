// Contracts broken on purpose, one for each number given: with the library that has assertions the
// program ends by SIGABRT. `0` breaks none.

#include "pagelock.h"
#include "check.h"

int main(int argc, char **argv) {
    static struct pagelock_page page;
    struct pagelock_guard guard = pagelock_lock(&page);
    CHECK(argc == 2);
    switch (argv[1][0]) {
    case '1': pagelock_unlock(guard); // and once more below
    case '0': pagelock_unlock(guard); break;
    case '2': pagelock_commit((struct pagelock_frozen){&page}); break;
    case '3': (void)!pagelock_put(&page); break;
    case '4': pagelock_abort((struct pagelock_migration){&page}); break;
    }
    puts("not noticed");
    return argv[1][0] != '0';
}
