//! Between the two: a connection, and what is said on it.
//!
//! A request is a page's number, four bytes; the answer is the same number and the page.

use anyhow::Result;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

/// Instead of a page: all are there.
pub(crate) const ALL: u32 = u32::MAX;
/// Instead of a page, and answered once the program has stopped: it may go on.
pub(crate) const GO: u32 = u32::MAX - 1;

pub(crate) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

pub(crate) fn connect(address: &str) -> io::Result<Box<dyn Wire>> {
    match address.strip_prefix("unix:") {
        Some(path) => Ok(Box::new(UnixStream::connect(path)?)),
        None => {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
    }
}

pub(crate) enum Listener {
    Tcp(TcpListener),
    /// With the folder that it is in.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    pub(crate) fn new(unix: bool) -> Result<Self> {
        if !unix {
            return Ok(Self::Tcp(TcpListener::bind("127.0.0.1:0")?));
        }
        let folder = std::env::temp_dir().join(format!("postcopy-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        Ok(Self::Unix(UnixListener::bind(folder.join("socket"))?, folder))
    }

    pub(crate) fn address(&self) -> Result<String> {
        Ok(match self {
            Self::Tcp(listener) => listener.local_addr()?.to_string(),
            Self::Unix(_, folder) => format!("unix:{}", folder.join("socket").display()),
        })
    }

    pub(crate) fn accept(&self) -> io::Result<Box<dyn Wire>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Unix(listener, _) => Box::new(listener.accept()?.0),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, folder) = self {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

pub(crate) fn number(wire: &mut dyn Wire) -> io::Result<u32> {
    let mut bytes = [0; 4];
    wire.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}
