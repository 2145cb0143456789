/*
 * Release, then sleep: the faulters of one page, the page-table locks, the page's owner, and the processors they run on.
 *
 * One page of a slow tier, mapped by ENTRIES page-table entries, each with a page-table lock (PTL) of its own. FAULTERS threads
 * access it and fault. Whoever takes the page's lock brings the page back: it replaces every entry by a migration entry, freezes,
 * and makes every entry present. Before it can do so it needs one worker to run on *every* processor (per-CPU batches of
 * references have to be drained). A holder locks and unlocks the page meanwhile for reasons of its own and never takes a PTL.
 *
 * What may be relied on, and all that may be:
 *
 *   F1  Weak fairness: a thread whose next step stays possible takes it some time. (pan -f)
 *   F2  A drain worker runs only while no thread on its processor is runnable: a worker of idle priority, or a kernel that does not
 *       preempt. Then F1 holds for the worker too. (PREEMPTIVE drops the condition.)
 *   F3  A PTL is given in the order in which it was asked for. Waiting for one is spinning: the thread stays runnable.
 *
 * The parameters, each off unless defined:
 *
 *   RETRY          a faulter that finds the page locked returns and faults again at once: the original protocol
 *   REFERENCE      it takes a reference, lets go of the PTL, and sleeps for the lock behind a closed gate
 *   ENTRY_IN_FAULT as RETRY, but whoever takes the lock replaces its own entry at once
 *   (none of them) it registers under the PTL, lets go of the PTL, sleeps, takes no reference: the fixed protocol
 *   DRAIN_FIRST    the drain comes before the page is locked, not after
 *   SPINNER        somebody on processor 1 polls until the page is not locked
 *   PREEMPTIVE     see F2
 *   FLAG_FIRST     seeded bug: the waiters' flag is set before the sequence is read
 *   KEEP_PTL       seeded bug: the PTL is kept until after the sleep
 *   NO_TELL        seeded bug: a release that fails to move the page tells nobody
 *   EARLY_UNLOCK   seeded bug: the page is unlocked before its entries are resolved
 *
 * The steps (1) to (4) and (A) to (C) are those of the module documentation of `wait`.
 */

#ifndef FAULTERS
#define FAULTERS 2
#endif
#ifndef ENTRIES
#define ENTRIES 2
#endif
#ifndef HOLDS
#define HOLDS 1                         /* how often the holder tries for the page */
#endif
#ifndef ABORTS
#define ABORTS 1                        /* how often a freeze may be refused for a reason that is not in this model */
#endif
#ifndef SEQUENCES
#define SEQUENCES 8                     /* more than there are releases, in a run that ends */
#endif
#define TICKETS 4                       /* more than there are threads that take PTLs */

mtype = { device, moving, present };    /* what an entry says: device-private, migration entry, present */

mtype leaf[ENTRIES] = device;
byte next_ticket[ENTRIES], serving[ENTRIES];

bool locked, event_waiters;             /* the page's state word */
byte lock_sleepers;                     /* REFERENCE: registered lockers; while there are any the gate is closed */
byte extra;                             /* references beyond those that the freeze expects */
byte refused;                           /* freezes, for another reason */

byte sequence;                          /* the event slot */
bool asleep[FAULTERS];

byte runnable[2];                       /* threads on each processor that do not sleep */
bool drain_wanted[2];
byte finished;

#define is_taken (locked || lock_sleepers > 0)        /* for newcomers: somebody owns it, or the gate is closed */
#define PROCESSOR_OF(thread) ((thread) % 2)

inline lock_ptl(e) {
    d_step { ticket = next_ticket[e]; next_ticket[e] = (next_ticket[e] + 1) % TICKETS }
    serving[e] == ticket
}

inline unlock_ptl(e) {
    serving[e] = (serving[e] + 1) % TICKETS
}

/* (A), (B), (C). The flag stays behind, as in the word: the next acquisition clears it. */
inline release() {
    d_step { assert(locked); locked = false; told = event_waiters; printf("MSC: the page is unlocked\n") }
    if
    :: told ->
        d_step { sequence = (sequence + 1) % SEQUENCES; printf("MSC: the sequence is bumped\n") }
        d_step {
            i = 0;
            do
            :: i < FAULTERS ->
                if
                :: asleep[i] -> asleep[i] = false; runnable[PROCESSOR_OF(i)]++
                :: else
                fi;
                i++
            :: else -> break
            od;
            i = 0
        }
    :: else
    fi
}

inline put_in_every_entry(what) {
    e = 0;
    do
    :: e < ENTRIES ->
        lock_ptl(e);
        leaf[e] = what;
        unlock_ptl(e);
        e++
    :: else -> break
    od;
    e = 0
}

/* Needs a worker on every processor. The thread sleeps meanwhile. */
inline drain() {
    printf("MSC: %d waits until a worker has run on every processor\n", me);
    atomic { drain_wanted[0] = true; drain_wanted[1] = true; runnable[PROCESSOR_OF(me)]-- }
    atomic { !drain_wanted[0] && !drain_wanted[1] -> runnable[PROCESSOR_OF(me)]++ }
}

/* The page is locked by this thread, and no PTL is held. */
inline migrate() {
#ifndef DRAIN_FIRST
    lock_ptl(mine);
    leaf[mine] = moving;
    unlock_ptl(mine);
    drain();
#endif
    put_in_every_entry(moving);
#ifdef EARLY_UNLOCK
    release();
    put_in_every_entry(present);
#else
    if
    :: extra == 0 ->
        printf("MSC: %d freezes, copies, and makes the page present\n", me);
        put_in_every_entry(present);
        release()
    :: extra > 0 ->
        printf("MSC: %d finds a reference too many, and aborts\n", me);
        put_in_every_entry(device);
        release()
    :: extra == 0 && refused < ABORTS ->
        refused++;
        printf("MSC: %d cannot move the page this time, and aborts\n", me);
        put_in_every_entry(device);
#ifdef NO_TELL
        locked = false
#else
        release()
#endif
    fi
#endif
}

/* (4): the futex compares and goes to sleep in one step. */
inline sleep() {
    atomic {
        if
        :: sequence == slept_under ->
            printf("MSC: %d sleeps\n", me);
            asleep[me] = true;
            runnable[PROCESSOR_OF(me)]--
        :: else
        fi
    }
    !asleep[me]
}

inline read_sequence() {
    slept_under = sequence;                                         /* (1) */
    printf("MSC: %d reads the sequence\n", me)
}

inline set_flag() {
    atomic {                                                        /* (2) */
        if
        :: is_taken -> event_waiters = true; registered = true; printf("MSC: %d sets the flag\n", me)
        :: else -> registered = false
        fi
    }
}

/* The PTL of `mine` is held; it is not when this ends. */
inline wait_unlocked() {
#ifdef FLAG_FIRST
    set_flag();
    read_sequence();
#else
    read_sequence();
    set_flag();
#endif
#ifdef KEEP_PTL
    if
    :: registered -> sleep()
    :: else
    fi;
    unlock_ptl(mine)
#else
    unlock_ptl(mine);                                               /* (3) */
    if
    :: registered -> sleep()
    :: else
    fi
#endif
}

/* What a faulter does that finds the page locked, by way of a device-private entry. The PTL is held. */
inline lost() {
#if defined(RETRY) || defined(ENTRY_IN_FAULT)
    printf("MSC: %d finds the page locked, and faults again\n", me);
    unlock_ptl(mine)
#elif defined(REFERENCE)
    extra++;
    printf("MSC: %d takes a reference, and sleeps for the lock\n", me);
    d_step { lock_sleepers++; runnable[PROCESSOR_OF(me)]-- }
    unlock_ptl(mine);
    atomic {
        !locked ->
        printf("MSC: %d gets the lock, and lets go of it\n", me);
        locked = true;
        event_waiters = false;
        lock_sleepers--;
        runnable[PROCESSOR_OF(me)]++
    }
    release();
    extra--
#else
    wait_unlocked()
#endif
}

proctype Faulter(byte me; byte mine) {
    byte ticket, slept_under, i, e;
    bool told, registered, owner, drained;

again:
    lock_ptl(mine);
    if
    :: leaf[mine] == present ->
        unlock_ptl(mine)
    :: leaf[mine] == moving ->
        assert(locked);                 /* a migration entry is never seen without its owner */
        wait_unlocked();
        goto again
    :: leaf[mine] == device ->
#ifdef DRAIN_FIRST
        if
        :: !drained ->
            unlock_ptl(mine);
            drain();
            drained = true;
            goto again
        :: else
        fi;
#endif
        atomic {
            owner = !is_taken;
            if
            :: owner -> locked = true; event_waiters = false; printf("MSC: %d locks the page\n", me)
            :: else
            fi
        }
        if
        :: owner ->
#ifdef ENTRY_IN_FAULT
            leaf[mine] = moving;
#endif
            unlock_ptl(mine);
            migrate();
            owner = false
        :: else ->
            lost()
        fi;
        goto again
    fi;
    atomic {
        printf("MSC: %d has its page\n", me);
        finished++;
        runnable[PROCESSOR_OF(me)]--
    }
}

/* A drain worker. F2 is its guard. */
proctype Worker(byte processor) {
end:
    do
    :: atomic {
#ifdef PREEMPTIVE
            drain_wanted[processor] ->
#else
            drain_wanted[processor] && runnable[processor] == 0 ->
#endif
            printf("MSC: the worker of processor %d runs\n", processor);
            drain_wanted[processor] = false
        }
    od
}

/* Locks the page and unlocks it, and never looks at a page table: writeback, say, or a migration through other tables that aborts. */
proctype Holder() {
    byte n, i;
    bool told, owner;

    do
    :: n < HOLDS ->
        n++;
        atomic {
            owner = !is_taken;
            if
            :: owner -> locked = true; event_waiters = false; printf("MSC: the holder locks the page\n")
            :: else
            fi
        }
        if
        :: owner -> release()
        :: else
        fi;
        owner = false
    :: else -> break
    od
}

#ifdef SPINNER
proctype Spinner() {
    atomic { runnable[1]++; printf("MSC: a spinner on processor 1 begins to poll\n") }
    do
    :: locked -> printf("MSC: the spinner finds the page locked\n")
    :: else -> break
    od;
    runnable[1]--
}
#endif

init {
    byte n;

    atomic {
        do
        :: n < FAULTERS ->
            runnable[PROCESSOR_OF(n)]++;
            run Faulter(n, n % ENTRIES);
            n++
        :: else -> break
        od;
        run Worker(0);
        run Worker(1);
        run Holder();
#ifdef SPINNER
        run Spinner();
#endif
    }
}

ltl everybody_gets_the_page { <> (finished == FAULTERS) }
