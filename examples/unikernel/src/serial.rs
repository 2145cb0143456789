//! The console: the first serial port. What is printed in one call stands together.

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

/// Prints, whoever else does.
pub fn print(args: fmt::Arguments<'_>) {
    let _console = CONSOLE.lock();
    let _ = Serial.write_fmt(args);
}

/// Prints in a panic: the console may be locked by who has panicked.
pub fn print_in_panic(args: fmt::Arguments<'_>) {
    let _ = Serial.write_fmt(args);
}

/// Prints a line.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::serial::print(format_args!("{}\n", format_args!($($arg)*))) };
}
