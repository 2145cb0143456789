//! Where results go: standard output and files. Each may be refused, and that is an error like
//! others.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// One line for people. `println!` would panic where the reader has gone.
pub fn say(line: impl Display) -> Result<(), String> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| format!("standard output: {e}"))
}

/// One line beside the results. A reader that misses it loses nothing.
pub fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "storm: {line}");
}

/// A file to be written at the end, and opened before the work for it begins.
pub struct Target {
    path: PathBuf,
    file: File,
}

impl Target {
    /// Keeps the contents until the new ones are written.
    pub fn open(path: &Path) -> Result<Self, String> {
        let file = File::options().write(true).create(true).truncate(false).open(path);
        Ok(Self {
            file: file.map_err(|e| format!("{}: {e}", path.display()))?,
            path: path.to_path_buf(),
        })
    }

    pub fn write(mut self, text: &str) -> Result<(), String> {
        let is_file = self.file.metadata().is_ok_and(|about| about.is_file());
        let cut = if is_file { self.file.set_len(0) } else { Ok(()) };
        cut.and_then(|()| self.file.write_all(text.as_bytes()))
            .and_then(|()| if is_file { self.file.sync_data() } else { Ok(()) })
            .map_err(|e| format!("{}: {e}", self.path.display()))
    }
}

/// The first `most` bytes of a file, or all of it. Devices and pipes have no end that could be
/// waited for.
pub fn read(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(most as u64).read_to_end(&mut bytes)) {
        Err(e) => Err(format!("{}: {e}", path.display())),
        Ok(0) => Err(format!("{} is empty", path.display())),
        Ok(_) => Ok(bytes),
    }
}
