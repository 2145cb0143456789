// What the C tests share: a check that says where it failed, and an end for a test that hangs.
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK(what)                                                                          \
    do {                                                                                     \
        if (!(what)) {                                                                       \
            fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, __func__, #what); \
            abort();                                                                         \
        }                                                                                    \
    } while (0)

#define OK(call) CHECK((call) == PAGELOCK_ERROR_OK)

// SIGALRM ends a program that is stuck, and its exit status says so.
static inline void watchdog(void) { alarm(120); }

// Numbers for tests: the same in every run with the same seed.
static inline uint32_t next_number(uint32_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

#endif
