//! How a descriptor comes here, and what it may lack.

use super::{file, good};
use crate::common::child::fork;
use crate::common::watched;
use core::sync::atomic::Ordering::SeqCst;
use pagelock::shared::{Segment, SegmentError, Size};
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The system refuses what the file does not allow, and nothing has changed then.
#[test]
fn a_file_that_lacks_a_right_is_refused_by_the_system() {
    let refused = |segment: Result<Segment, SegmentError>| match segment.map(drop) {
        Err(SegmentError::System { call, errno }) => (call, errno),
        other => panic!("{other:?}"),
    };
    // Not to be written any more.
    let frozen = file(&good(), libc::F_SEAL_SHRINK | libc::F_SEAL_FUTURE_WRITE);
    assert_eq!(refused(Segment::attach(&frozen)), ("mmap", libc::EPERM));
    // Not to be made longer: it is as good otherwise.
    let short = Segment::attach(file(&good(), libc::F_SEAL_SHRINK | libc::F_SEAL_GROW)).unwrap();
    let grown = short.grow(64).unwrap_err();
    assert_eq!(grown, SegmentError::System { call: "ftruncate", errno: libc::EPERM });
    assert_eq!((short.pages(), short.refresh()), (8, Ok(8)));
    drop(short.sit().unwrap().lock(7).unwrap());
    // Not open. (The number is the highest that a descriptor can have.)
    // SAFETY: the kernel says that it is none.
    let closed = unsafe { Segment::attach_raw(i32::MAX) };
    assert_eq!(refused(closed), ("fcntl(F_GET_SEALS)", libc::EBADF));
}

/// What is no segment is not even opened: with a device that does something, by the rights of this
/// process, and the peer may have no more than the name.
#[test]
fn a_file_that_is_refused_was_not_opened() {
    let path = std::env::temp_dir().join(format!("pagelock-{}", std::process::id()));
    let refused = std::fs::File::create(&path).unwrap();
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a new descriptor, which nobody else has; the name ends with a zero.
    let mut opened = unsafe {
        let fd = libc::inotify_init1(libc::IN_NONBLOCK);
        assert!(fd >= 0 && libc::inotify_add_watch(fd, name.as_ptr(), libc::IN_OPEN) >= 0);
        std::fs::File::from_raw_fd(fd)
    };
    let mut events = [0; 256];
    assert_eq!(Segment::attach(&refused).unwrap_err(), SegmentError::NotSealed);
    let none = opened.read(&mut events).unwrap_err();
    assert_eq!(none.kind(), std::io::ErrorKind::WouldBlock);
    drop(std::fs::File::open(&path).unwrap());
    assert!(opened.read(&mut events).unwrap() > 0, "the watch sees an open");
    std::fs::remove_file(&path).unwrap();
}

/// It is opened anew, so what counts is what the file allows, and not how it was open.
#[test]
fn a_descriptor_that_can_only_read_is_as_good() {
    let segment = Segment::create(c"read", Size::of(4)).unwrap();
    let read = std::fs::File::open(format!("/proc/self/fd/{}", segment.as_raw_fd())).unwrap();
    let own = Segment::attach(&read).unwrap();
    own.user_words()[1].store(5, SeqCst);
    assert_eq!(segment.user_words()[1].load(SeqCst), 5);
}

/// Sends a descriptor over a socket, as a hypervisor does, and attaches to what comes out.
#[test]
fn a_descriptor_that_came_over_a_socket_is_as_good() {
    let segment = Segment::create(c"sent", Size::of(4)).unwrap();
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    watched(&[], || {
        let child = fork(|| {
            let own = Segment::attach(receive(b.as_raw_fd())).unwrap();
            let seat = own.sit().unwrap();
            drop(seat.lock(3).unwrap());
            own.user_words()[0].store(77, SeqCst);
            0
        });
        send(a.as_raw_fd(), segment.as_fd().as_raw_fd());
        assert_eq!(child.status(), 0);
    });
    assert_eq!(segment.user_words()[0].load(SeqCst), 77);
}

/// What a survivor recovers of a child that was killed with a page in hand, while it holds the
/// descriptor that the child has sent, and afterwards.
fn recovered_from_a_sender(passes: fn(&Segment) -> OwnedFd) -> (u32, u32) {
    let segment = Segment::create(c"kept", Size::of(4)).unwrap();
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut recovered = (0, 0);
    watched(&[], || {
        let child = fork(|| {
            let own = Segment::attach(&segment).unwrap();
            let seat = own.sit().unwrap();
            core::mem::forget(seat.lock(3).unwrap());
            send(a.as_raw_fd(), passes(&own).as_raw_fd());
            // SAFETY: this process has no more to do, nor to drop.
            unsafe { libc::_exit(0) }
        });
        let passed = receive(b.as_raw_fd());
        assert_eq!(child.status(), 0);
        let pages = || segment.recover(|left| drop(left.stage)).unwrap().pages;
        recovered.0 = pages();
        drop(passed);
        // A child that another test has forked meanwhile has a copy as well, until it ends.
        while recovered.0 + recovered.1 == 0 {
            recovered.1 = pages();
            std::thread::yield_now();
        }
    });
    recovered
}

/// The locks that show that a process lives last until every copy of its descriptor is closed.
#[test]
fn a_copy_hides_its_senders_death_and_a_descriptor_opened_anew_does_not() {
    let copy = |segment: &Segment| segment.as_fd().try_clone_to_owned().unwrap();
    assert_eq!(recovered_from_a_sender(copy), (0, 1));
    let anew = |segment: &Segment| {
        std::fs::File::open(format!("/proc/self/fd/{}", segment.as_raw_fd())).unwrap().into()
    };
    assert_eq!(recovered_from_a_sender(anew), (1, 0));
}

/// Runs `call` with a message of one byte that has room for one descriptor.
fn message(call: impl FnOnce(&mut libc::msghdr) -> isize) {
    let (mut byte, mut control) = (0u8, [0u64; 4]);
    let mut data = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: integers and pointers, of which all zeroes are a value.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut data, 1);
    // SAFETY: computes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as _;
    message.msg_control = control.as_mut_ptr().cast();
    assert_eq!(call(&mut message), 1);
}

fn send(socket: i32, fd: i32) {
    message(|message| {
        // SAFETY: there is room for one.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(message);
            ((*first).cmsg_level, (*first).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
            (*first).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(first).cast::<i32>().write_unaligned(fd);
            libc::sendmsg(socket, message, 0)
        }
    });
}

fn receive(socket: i32) -> OwnedFd {
    let mut fd = -1;
    message(|message| {
        // SAFETY: fills in the message, which has room for one.
        unsafe {
            let got = libc::recvmsg(socket, message, 0);
            let first = libc::CMSG_FIRSTHDR(message);
            fd = libc::CMSG_DATA(first).cast::<i32>().read_unaligned();
            got
        }
    });
    // SAFETY: it came just now.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
