//! The five ways. All but the toolkit share one loop that reads faults, as good as the toolkit's.

use crate::guests::Store;
use pagelock_vmm::uffd::{Ram, SMALL, Uffd};
use pagelock_vmm::{Event, Events, Fetch, Inbox, Layer, Region, Server};
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contender {
    Toolkit,
    BigMutex,
    Map,
    States,
    Bare,
}

impl Contender {
    pub fn name(self) -> &'static str {
        match self {
            Self::Toolkit => "toolkit",
            Self::BigMutex => "(a) big mutex",
            Self::Map => "(b) map",
            Self::States => "(c) states",
            Self::Bare => "(d) bare",
        }
    }

    pub fn start(
        self,
        uffd: Uffd,
        inbox: Arc<Inbox>,
        ram: Ram,
        store: Arc<Store>,
        handlers: usize,
    ) -> Running {
        let pages = ram.len() / SMALL;
        match self {
            Self::Toolkit => {
                let region = Region::new(ram, &inbox, 0).unwrap();
                let read = move |fetch: &Fetch, into: &mut [u8]| {
                    store.read(fetch.page(), into);
                    Ok(())
                };
                Running::Toolkit(Server::start(&inbox, handlers, read).unwrap(), region)
            }
            Self::BigMutex => {
                let present = Mutex::new(vec![false; pages]);
                Pool::start(uffd, ram, handlers, move |ram, page, buffer| {
                    let mut present = present.lock().unwrap();
                    if present[page] {
                        return ram.wake(page * SMALL);
                    }
                    store.read(page, buffer);
                    put(ram, page, buffer);
                    present[page] = true;
                })
            }
            Self::Map => {
                #[derive(Default)]
                struct Tracked {
                    present: Vec<bool>,
                    /// And whether another fault has come for it.
                    in_flight: HashMap<usize, bool>,
                }
                let tracked =
                    Mutex::new(Tracked { present: vec![false; pages], ..Tracked::default() });
                Pool::start(uffd, ram, handlers, move |ram, page, buffer| {
                    {
                        let mut tracked = tracked.lock().unwrap();
                        if tracked.present[page] {
                            drop(tracked);
                            return ram.wake(page * SMALL);
                        }
                        if let Some(awaited) = tracked.in_flight.get_mut(&page) {
                            *awaited = true;
                            return;
                        }
                        tracked.in_flight.insert(page, false);
                    }
                    store.read(page, buffer);
                    put(ram, page, buffer);
                    let awaited = {
                        let mut tracked = tracked.lock().unwrap();
                        tracked.present[page] = true;
                        tracked.in_flight.remove(&page).unwrap()
                    };
                    if awaited {
                        ram.wake(page * SMALL);
                    }
                })
            }
            Self::States => {
                #[derive(Clone, Copy)]
                enum State {
                    Out,
                    InFlight { awaited: bool },
                    In,
                }
                let states: Vec<_> = (0..pages).map(|_| Mutex::new(State::Out)).collect();
                Pool::start(uffd, ram, handlers, move |ram, page, buffer| {
                    {
                        let mut state = states[page].lock().unwrap();
                        match &mut *state {
                            State::In => {
                                drop(state);
                                return ram.wake(page * SMALL);
                            }
                            State::InFlight { awaited } => return *awaited = true,
                            State::Out => *state = State::InFlight { awaited: false },
                        }
                    }
                    store.read(page, buffer);
                    put(ram, page, buffer);
                    let was = std::mem::replace(&mut *states[page].lock().unwrap(), State::In);
                    if matches!(was, State::InFlight { awaited: true }) {
                        ram.wake(page * SMALL);
                    }
                })
            }
            Self::Bare => Pool::start(uffd, ram, handlers, move |ram, page, buffer| {
                store.read(page, buffer);
                put(ram, page, buffer);
            }),
        }
    }
}

fn put(ram: &Ram, page: usize, buffer: &[u8]) {
    if !ram.fill(page * SMALL, buffer, false).unwrap() {
        ram.wake(page * SMALL);
    }
}

/// A server that runs.
pub enum Running {
    Toolkit(Server, Arc<Region>),
    Pool(Pool),
}

impl Running {
    pub fn stop(self) {
        match self {
            Self::Toolkit(server, region) => {
                server.stop().unwrap();
                drop(region);
            }
            Self::Pool(pool) => pool.stop(),
        }
    }
}

/// The loop of all others: threads that read one fault each, and sleep in `epoll`, of which one is
/// woken for one fault.
pub struct Pool {
    stop: Arc<(AtomicBool, OwnedFd)>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    fn start(
        uffd: Uffd,
        ram: Ram,
        handlers: usize,
        serve: impl Fn(&Ram, usize, &mut [u8]) + Send + Sync + 'static,
    ) -> Running {
        let shared = Arc::new((ram, serve));
        let stop = Arc::new((AtomicBool::new(false), eventfd(0, EventfdFlags::CLOEXEC).unwrap()));
        let threads = (0..handlers)
            .map(|_| {
                let (uffd, shared, stop) = (uffd.clone(), Arc::clone(&shared), Arc::clone(&stop));
                thread::spawn(move || {
                    let (ram, serve) = &*shared;
                    let bell = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
                    let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
                    epoll::add(&bell, uffd.fd(), epoll::EventData::new_u64(0), flags).unwrap();
                    epoll::add(&bell, &stop.1, epoll::EventData::new_u64(1), epoll::EventFlags::IN)
                        .unwrap();
                    let mut room = [epoll::Event {
                        flags: epoll::EventFlags::empty(),
                        data: epoll::EventData::new_u64(0),
                    }; 2];
                    let mut buffer = vec![0; SMALL];
                    while !stop.0.load(SeqCst) {
                        match uffd.next().unwrap() {
                            Some(Event::Fault { address, .. }) => {
                                serve(ram, (address - ram.base()) / SMALL, &mut buffer)
                            }
                            Some(_) => {}
                            None => {
                                let most = Timespec { tv_sec: 1, tv_nsec: 0 };
                                let _ = epoll::wait(&bell, &mut room[..], Some(&most));
                            }
                        }
                    }
                })
            })
            .collect();
        Running::Pool(Self { stop, threads })
    }

    fn stop(self) {
        self.stop.0.store(true, SeqCst);
        let _ = rustix::io::write(&self.stop.1, &1_u64.to_ne_bytes());
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}
