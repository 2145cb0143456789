//! `fork`: the child inherits a header that counts the parent's sleepers, and none of them.
//! `reset_sleepers` makes it usable again.

#![cfg(all(target_os = "linux", not(any(pagelock_loom, pagelock_shuttle, miri))))]

mod common;

use common::own::Own;
use common::{page_on, watched};
use pagelock::PageLock;
use std::thread;

/// Runs `body` in a fork, and says whether it came to an end: it has two seconds.
///
/// `body` must not allocate, panic, or take locks other than the page.
fn comes_to_an_end_in_a_fork(body: impl FnOnce()) -> bool {
    // SAFETY: the child does nothing but what is allowed between fork and exec, as `body` promises.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: asks for a signal that ends this process.
        unsafe { libc::alarm(2) };
        body();
        // SAFETY: ends the process, without running anything of the parent's.
        unsafe { libc::_exit(0) }
    }
    let mut status = 0;
    // SAFETY: `pid` is a child of ours that nobody else waits for.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status) || libc::WTERMSIG(status) == libc::SIGALRM, "{status:x}");
    libc::WIFEXITED(status)
}

/// The lock is held across the fork by the thread that forks, as `pthread_atfork` has it, while
/// others sleep for it, one of them starved.
#[test]
fn after_fork_the_child_has_the_lock_once_it_has_struck_the_parents_sleepers() {
    let own = Own::new(1);
    let page: &'static PageLock<Own> = page_on(own);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let inside = [1, 2].map(|n| {
                let locker = s.spawn(|| drop(page.lock_releasing(())));
                own.until_asleep(n);
                locker
            });
            assert_eq!(page.sleepers(), 1, "the other one is outside: {page:?}");
            let fork = |strikes: bool| {
                comes_to_an_end_in_a_fork(|| {
                    if strikes {
                        // SAFETY: those who were counted are in the parent, and this is the child's
                        // only thread.
                        unsafe { page.reset_sleepers() };
                    }
                    // SAFETY: the page was locked by this thread, before it was the child's.
                    drop(unsafe { pagelock::PageGuard::from_raw(page) });
                    drop(page.lock());
                    page.lock().unlock_fair();
                    drop(page.lock());
                })
            };
            assert!(fork(true), "with the sleepers struck");
            assert!(
                !fork(false),
                "if this comes to an end, then there is no need to strike anybody"
            );
            drop(guard);
            inside.into_iter().for_each(|locker| locker.join().unwrap());
        });
        assert_eq!(page.sleepers(), 0);
        drop(page.try_lock().expect("the parent's page is as it was"));
    });
}
