use pagelock::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
#[test]
fn mutex() {
    static P: PageLock = PageLock::new();
    static N: AtomicU64 = AtomicU64::new(0);
    std::thread::scope(|s| {
        for t in 0..8 {
            s.spawn(move || {
                for i in 0..200_000u64 {
                    let g = if t == 0 && i % 64 == 0 {
                        match P.try_lock_for(Duration::from_micros(i % 50)) {
                            Some(g) => g,
                            None => P.lock(),
                        }
                    } else {
                        P.lock()
                    };
                    N.store(N.load(Relaxed) + 1, Relaxed);
                    if t == 1 && i % 16 == 0 {
                        g.unlock_fair();
                    } else {
                        drop(g)
                    }
                }
            });
        }
    });
    assert_eq!(N.load(Relaxed), 1_600_000);
    println!("{P:?}");
    assert!(!P.is_locked());
}
#[test]
fn many_waiters() {
    static P: PageLock = PageLock::new();
    for n in [1, 8, 64, 256] {
        let g = P.lock();
        let hs: Vec<_> = (0..n).map(|_| std::thread::spawn(|| P.wait_unlocked(()))).collect();
        std::thread::sleep(Duration::from_millis(50));
        drop(g);
        for h in hs {
            let _ = h.join().unwrap();
        }
    }
}
