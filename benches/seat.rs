//! What a seat costs: each operation of the core, and beside it the same through a seat.
//!
//! Without arguments: nanoseconds, medians of runs that take turns. `seat WHAT TIMES` runs one for
//! an instruction counter, and `seat names` lists them; `ci/shared.sh` does both.

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use core::hint::black_box;
    use pagelock::shared::{Seat, Segment, Size};
    use pagelock::{FreezeRule, PageLock};
    use std::time::Instant;

    struct On<'g> {
        page: PageLock,
        seat: Seat<'g>,
    }

    type Body = fn(&On<'_>);

    const RULE: FreezeRule = FreezeRule::ExactRefs(1);

    /// In pairs: alone, and with a seat.
    const ALL: [(&str, Body); 9] = [
        ("nothing", |_| {}),
        ("lock-unlock", |on| drop(on.page.lock())),
        ("seat-lock-unlock", |on| drop(on.seat.lock(0))),
        ("get-put", |on| drop(on.page.try_get())),
        ("seat-get-put", |on| drop(on.seat.get(0))),
        ("pin-unpin", |on| drop(on.page.try_pin())),
        ("seat-pin-unpin", |on| drop(on.seat.pin(0))),
        ("lock-begin-freeze-commit", |on| {
            on.page.lock().begin_migration().freeze(RULE).unwrap().commit_in_place();
        }),
        ("seat-lock-begin-freeze-commit", |on| {
            on.seat.lock(0).unwrap().begin_migration().freeze(RULE).unwrap().commit_in_place();
        }),
    ];

    #[inline(never)]
    fn rounds(times: u64, on: &On<'_>, body: Body) {
        for _ in 0..times {
            black_box(body)(on);
        }
    }

    pub(super) fn main() {
        let segment = Segment::create(c"bench", Size::of(1).seats(1)).unwrap();
        let on = On { page: PageLock::new(), seat: segment.sit().unwrap() };
        on.page.activate(1).unwrap();
        on.seat.activate(0).unwrap().into_raw();
        let mut args = std::env::args().skip(1).filter(|a| a != "--bench" && a != "--test");
        match (args.next().as_deref(), args.next().and_then(|n| n.parse().ok())) {
            (Some("names"), _) => ALL.iter().for_each(|(name, _)| println!("{name}")),
            (Some(what), Some(times)) => {
                rounds(times, &on, ALL.iter().find(|(name, _)| *name == what).unwrap().1)
            }
            _ => measure(&on),
        }
    }

    fn measure(on: &On<'_>) {
        const TIMES: u64 = 20_000;
        let mut taken = [(); ALL.len()].map(|()| Vec::new());
        for _ in 0..101 {
            for ((_, body), taken) in ALL.iter().zip(&mut taken) {
                let began = Instant::now();
                rounds(TIMES, on, *body);
                taken.push(began.elapsed().as_secs_f64() * 1e9 / TIMES as f64);
            }
        }
        let median = |taken: &mut Vec<f64>| {
            taken.sort_by(f64::total_cmp);
            taken[taken.len() / 2]
        };
        let medians: Vec<f64> = taken.iter_mut().map(median).collect();
        for pair in (1..ALL.len()).step_by(2) {
            let [alone, seat] = [medians[pair], medians[pair + 1]].map(|ns| ns - medians[0]);
            println!(
                "{:28} {alone:6.1} ns, with a seat {seat:6.1} ns: {:.2} times",
                ALL[pair].0,
                seat / alone
            );
        }
    }
}
