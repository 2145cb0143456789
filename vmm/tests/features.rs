//! What is counted and traced when asked for, and that a server's end is an end.

mod common;

use common::{PAGE, Rig, filled, until};
use pagelock_vmm::{Fetch, Server};
use std::thread;
use std::time::Duration;

#[test]
fn a_server_that_stops_finishes_its_fetch_and_leaves_the_rest_to_the_next() {
    let rig = Rig::new(2);
    let server = Server::start(&rig.inbox, 1, |_: &Fetch, into: &mut [u8]| {
        thread::sleep(Duration::from_millis(30));
        into.fill(1);
        Ok(())
    })
    .unwrap();
    let first = rig.reader(0);
    until(|| rig.region.state(0).unwrap().owned);
    let second = rig.reader(1);
    let served = server.stop().unwrap();
    assert_eq!((served.fetched, first.join().unwrap()), (1, Ok(1)));
    assert!(rig.region.states(0..2).all(|(_, state)| !state.owned));
    let next = Server::start(&rig.inbox, 1, filled(|_| 2));
    assert_eq!(second.join().unwrap(), Ok(2));
    drop(next); // stops as well
}

#[test]
fn counters_say_what_happened_or_nothing_at_all() {
    let rig = Rig::new(4);
    rig.bring_in(0, 1);
    let _ = rig.region.fault(0);
    rig.region.evict(0).unwrap().done();
    rig.bring_in(1, 1);
    drop(rig.region.evict(1).unwrap());
    drop(rig.region.pin(1).unwrap());
    let _ = rig.region.discard(0..2);
    let stats = rig.region.stats();
    let seen = (
        stats.faults,
        stats.present,
        stats.fetches,
        stats.evictions,
        stats.put_back,
        stats.pins,
        stats.discards,
    );
    let right = if cfg!(feature = "stats") { (3, 1, 2, 1, 1, 1, 2) } else { (0, 0, 0, 0, 0, 0, 0) };
    assert_eq!(seen, right);
    assert_eq!(rig.ram.with(3, false, Duration::ZERO, |bytes| bytes.len()).ok(), None, "{PAGE}");
}

#[cfg(feature = "tracing")]
#[test]
fn fetches_evictions_failures_and_long_holds_are_traced() {
    use std::sync::{Arc, Mutex};
    use tracing::span;

    /// Notes the levels of events, and the texts of their messages.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<String>>>);

    impl tracing::Subscriber for Notes {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            struct Text(String);
            impl tracing::field::Visit for Text {
                fn record_debug(
                    &mut self,
                    field: &tracing::field::Field,
                    value: &dyn std::fmt::Debug,
                ) {
                    self.0 += &format!("{}={value:?} ", field.name());
                }
            }
            let mut text = Text(format!("{} ", event.metadata().level()));
            event.record(&mut text);
            self.0.lock().unwrap().push(text.0);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    let notes = Notes::default();
    tracing::subscriber::with_default(notes.clone(), || {
        let rig = Rig::new(2);
        rig.bring_in(0, 1);
        rig.region.evict(0).unwrap().done();
        let _ = rig.region.discard(1..2);
        let held = rig.region.prefetch(0..1).next().unwrap();
        held.note("asleep on purpose");
        thread::sleep(Duration::from_millis(120));
        drop(held);
    });
    let notes = notes.0.lock().unwrap().join("\n");
    for part in [
        "TRACE message=fetched page=0",
        "DEBUG message=evicted page=0",
        "message=discarded",
        "WARN message=held for long",
        "asleep on purpose",
    ] {
        assert!(notes.contains(part), "{part} is not in:\n{notes}");
    }
}
