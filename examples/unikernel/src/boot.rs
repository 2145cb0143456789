//! From PVH's 32-bit entry to 64-bit Rust, for the first processor and for those that it starts.
//!
//! The first arrives here without paging, with `ebx` at the start info. The others arrive in real
//! mode in a page below 1 MiB, to which [`trampoline`] is copied. Both go through `to_long_mode`,
//! draw a number, and get a stack by it.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Bytes of a processor's own stack.
pub const STACK: usize = 64 << 10;
/// Where the others begin: the page number of the start-up interrupt.
pub const TRAMPOLINE: usize = 0x8000;

global_asm!(
    r#"
.pushsection .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18                  # sizes; XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_start
.popsection

.pushsection .boot, "awx", @progbits
.code32
.globl pvh_start
pvh_start:
    cli
    cld
    movl $__bss_start, %edi
    movl $__bss_end, %ecx
    subl %edi, %ecx
    xorl %eax, %eax
    rep stosb
    movl %ebx, BOOT_INFO

    # The first 4 GiB are where they are, in pages of 2 MiB.
    movl $BOOT_PDPT + 3, BOOT_PML4
    movl $BOOT_PDPT, %edi
    movl $BOOT_PD + 3, %eax
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 1b
    movl $BOOT_PD, %edi
    movl $0x83, %eax
    movl $2048, %ecx
2:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 2b
    orl $0x18, BOOT_PD + 0x7f7 * 8  # the local APIC, at 0xfee00000: uncached

to_long_mode:
    movl $BOOT_PML4, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x620, %eax                # PAE, and SSE without traps
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax                # long mode, no-execute
    wrmsr
    movl %cr0, %eax
    andl $0xfffffff3, %eax          # no emulation of the FPU
    orl $0x80010003, %eax           # paging; WP: the kernel's own writes fault too
    movl %eax, %cr0
    lgdt boot_gdtr
    ljmp $8, $long_mode

ap32:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    jmp to_long_mode

.code64
long_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $1, %edi
    lock xaddl %edi, BOOT_TICKET
    movl %edi, %eax
    incl %eax
    imull ${stack}, %eax, %eax
    leaq BOOT_STACKS(%rax), %rsp
    xorl %ebp, %ebp
    call {main}
    ud2

.balign 8
boot_gdt:
    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff, 0x00cf9a000000ffff
boot_gdt_end:
boot_gdtr:
    .word boot_gdt_end - boot_gdt - 1
    .quad boot_gdt

.globl trampoline, trampoline_end
.code16
trampoline:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl {page} + (trampoline_gdtr - trampoline)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x18, $ap32
trampoline_gdtr:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt
trampoline_end:
.code64
.popsection
"#,
    main = sym crate::cpu_main,
    stack = const STACK,
    page = const TRAMPOLINE,
    options(att_syntax)
);

#[repr(C, align(4096))]
struct Table([u64; 512]);
#[repr(C, align(4096))]
struct Tables4([u64; 2048]);
#[repr(C, align(16))]
struct Stacks([u8; STACK * crate::cpu::MAX]);

// Written by the code above before anything else runs, and by no Rust.
#[unsafe(no_mangle)]
static mut BOOT_PML4: Table = Table([0; 512]);
#[unsafe(no_mangle)]
static mut BOOT_PDPT: Table = Table([0; 512]);
#[unsafe(no_mangle)]
static mut BOOT_PD: Tables4 = Tables4([0; 2048]);
#[unsafe(no_mangle)]
static mut BOOT_STACKS: Stacks = Stacks([0; STACK * crate::cpu::MAX]);
#[unsafe(no_mangle)]
static BOOT_INFO: AtomicU32 = AtomicU32::new(0);
#[unsafe(no_mangle)]
static BOOT_TICKET: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    static trampoline: u8;
    static trampoline_end: u8;
}

/// What each address space has in common: the first 512 GiB, of which 4 GiB are mapped.
pub fn identity_entry() -> u64 {
    (&raw const BOOT_PDPT).addr() as u64 | 3
}

/// Puts the code for the other processors where they begin.
pub fn place_trampoline() {
    let (from, end) = (&raw const trampoline, &raw const trampoline_end);
    // SAFETY: the page at 0x8000 is RAM below the image, which has no other use; the code is
    // shorter than a page.
    unsafe {
        core::ptr::copy_nonoverlapping(from, TRAMPOLINE as *mut u8, end.addr() - from.addr())
    };
}

/// The kernel's command line, which QEMU's `-append` gives.
pub fn command_line() -> &'static str {
    let info = BOOT_INFO.load(Relaxed) as usize as *const u64;
    // SAFETY: PVH's start info, in identity-mapped memory that nothing overwrites: the fourth
    // quadword is where a string is that ends with 0.
    unsafe {
        let text = *info.add(3) as *const core::ffi::c_char;
        if text.is_null() { "" } else { core::ffi::CStr::from_ptr(text).to_str().unwrap_or("") }
    }
}
