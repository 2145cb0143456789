//! The console: the first serial port. The text of one call stands together.

use crate::port;
use crate::spin::Spin;
use core::fmt::{self, Write};

const PORT: u16 = 0x3f8;
static CONSOLE: Spin<()> = Spin::new(());

struct Serial;

impl Write for Serial {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            while port::read(PORT + 5) & 0x20 == 0 {
                core::hint::spin_loop();
            }
            port::out(PORT, byte);
        }
        Ok(())
    }
}

/// Prints; other processors wait meanwhile.
pub fn print(args: fmt::Arguments<'_>) {
    let _console = CONSOLE.lock();
    let _ = Serial.write_fmt(args);
}

/// Prints in a panic: the panicking processor may have the console locked.
pub fn print_in_panic(args: fmt::Arguments<'_>) {
    let _ = Serial.write_fmt(args);
}

/// Prints a line.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::serial::print(format_args!("{}\n", format_args!($($arg)*))) };
}
