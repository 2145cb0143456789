//! A fault server: guest memory whose pages come from a file, when they are first touched.
use pagelock_vmm::{Fetch, Inbox, Region, Server};
use std::{fs::File, io, os::unix::fs::FileExt, time::Duration};

fn main() -> io::Result<()> {
    let image = File::open(std::env::args().nth(1).unwrap_or("/proc/self/exe".into()))?;
    let len = image.metadata()?.len().next_multiple_of(4096) as usize;

    let inbox = Inbox::open()?; // userfaultfd
    let region = Region::anonymous(&inbox, len)?; // guest memory; all of its pages are out
    let store = move |fetch: &Fetch, page: &mut [u8]| {
        let n = image.read_at(page, fetch.offset())?;
        page[n..].fill(0);
        Ok(())
    };
    let server = Server::start(&inbox, 4, store)?; // four threads

    // The guest: here, a thread that reads all of it.
    let (base, pages) = (region.host_range().start, region.pages());
    let guest = std::thread::spawn(move || -> u64 {
        // SAFETY: the region's memory, which is there until `region` is dropped.
        (0..pages).map(|page| unsafe { *((base + page * 4096) as *const u8) } as u64).sum()
    });
    let sum = guest.join().unwrap();
    println!("{pages} pages read, first bytes add up to {sum}; {:?}", server.served());
    println!("{}", region.report(Duration::from_secs(1))); // what to look at when a guest hangs
    server.stop().map(drop)
}
