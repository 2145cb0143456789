//! I/O ports, and the two devices that need nothing else: the exit and the count of processors.

use core::arch::asm;

/// Writes a byte.
pub fn out(port: u16, byte: u8) {
    // SAFETY: the ports that this kernel writes to change devices, and no memory.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") byte, options(nomem, nostack, preserves_flags))
    }
}

/// Reads a byte.
pub fn read(port: u16) -> u8 {
    let byte;
    // SAFETY: as above.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") byte, options(nomem, nostack, preserves_flags))
    }
    byte
}

/// How many processors QEMU has, by its configuration device.
pub fn processors() -> usize {
    const COUNT: u16 = 5;
    // SAFETY: as above.
    unsafe {
        asm!(
            "out dx, ax",
            in("dx") 0x510u16,
            in("ax") COUNT,
            options(nomem, nostack, preserves_flags)
        )
    }
    usize::from(read(0x511)) | usize::from(read(0x511)) << 8
}

/// How a boot ended. QEMU's exit status is twice the number and one.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Status 33.
    AllIsWell = 0x10,
    /// Status 3: a check has failed, or the kernel has panicked.
    Failed = 0x01,
    /// Status 5: a control's fault was not seen.
    NotSeen = 0x02,
    /// Status 65: without shootdowns, data was corrupted.
    Corrupted = 0x20,
    /// Status 67: a header was touched after its release.
    Touched = 0x21,
    /// Status 69: a sleeper was found that no processor would ever wake.
    Stranded = 0x22,
}

/// Ends the machine.
pub fn exit(how: Exit) -> ! {
    loop {
        out(0xf4, how as u8);
    }
}
