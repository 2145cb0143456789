//! The guest's program in machine code: 32 bit, flat, without paging. `program.rs` says what it
//! does.

/// `in`: what to do next.
pub(crate) const CONTROL: u16 = 0x10;
/// `out`: the first page, and in the top byte how many, for the balloon.
pub(crate) const BALLOON: u16 = 0x14;
/// `out`: a word is wrong: its page is in `esi`, what was found in `edi`, what was expected in
/// `edx`.
pub(crate) const FAIL: u16 = 0x18;
/// `out`: the end.
pub(crate) const DONE: u16 = 0x1c;

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    r#"
    .pushsection .rodata.pagelock_guest,"a"
    .code32
    .macro give                             // esi: the first page; ecx: how many
        lea edi, [esi * 4 + 0x4000]
        mov eax, ecx
        shl eax, 24
        or eax, esi
    5:  mov dword ptr [edi], 0x80000000
        add edi, 4
        dec ecx
        jnz 5b
        mov dx, 0x14
        out dx, eax
    .endm
    // \from: a word's number, spoilt; \n: spoilt. The value in \from
    .macro expect from, n
        shr \from, 4
        imul \from, \from, 0x9E3779B1
        imul \n, \n, 0x85EBCA6B
        add \from, \n
    .endm
    // eax: the slot of write \n of page esi; edx: its word's number
    .macro word n
        imul eax, \n, 97
        imul edx, esi, 13
        add eax, edx
        and eax, 1023
        mov edx, esi
        shl edx, 10
        or edx, eax
    .endm
    .globl pagelock_guest
    .globl pagelock_guest_end
pagelock_guest:
2:  mov dx, 0x10                            // ebp: the parameters
    in eax, dx
    test eax, eax
    jz 3f
    cmp eax, -1
    je 8f
    mov esi, eax
    mov ecx, 8
    give
3:  imul eax, dword ptr [ebp], 1664525      // a page of its own
    add eax, 1013904223
    mov [ebp], eax
    mov edi, eax
    mul dword ptr [ebp + 12]
    add edx, [ebp + 8]
    mov esi, edx
    test edi, 0x1f00
    jnz 4f
    mov ecx, 1
    give
4:  mov ebx, [esi * 4 + 0x4000]             // ebx: the ledger's word; ecx: n
    mov ecx, ebx
    and ecx, 0x7fffffff
    jz 4f
    word ecx
    mov edi, [edx * 4]
    mov eax, ecx
    expect edx, eax
    cmp edi, edx
    jne 9f
4:  inc ecx
    word ecx
    mov edi, [edx * 4]
    mov eax, ecx
    sub eax, 1024
    jg 6f
    xor eax, eax
    test ebx, ebx
    js 7f
6:  mov ebx, edx
    expect ebx, eax
    mov eax, ebx
7:  cmp edi, eax
    jne 7f
    mov ebx, edx
    mov eax, ecx
    expect ebx, eax
    mov [edx * 4], ebx
    inc dword ptr [esi * 4 + 0x4000]
    imul eax, dword ptr [ebp + 4], 1664525  // a page that nobody writes
    add eax, 1013904223
    mov [ebp + 4], eax
    mov ebx, eax
    mov ecx, eax
    mul dword ptr [ebp + 20]
    add edx, [ebp + 16]
    mov esi, edx
    shr ecx, 3
    and ecx, 1023
    shl edx, 10
    or edx, ecx
    mov edi, [edx * 4]
    xor eax, eax
    expect edx, eax
    cmp edi, edx
    jne 9f
    imul eax, ebx, 0x9E3779B1               // a page that a device writes
    mul dword ptr [ebp + 28]
    add edx, [ebp + 24]
    mov esi, edx
    mov ecx, [esi * 4 + 0x4000]
    test cl, 1
    jnz 6f
    and ebx, 1023
    shl edx, 10
    or edx, ebx
    mov edi, [edx * 4]
    cmp ecx, [esi * 4 + 0x4000]
    jne 6f
    expect edx, ecx
    cmp edi, edx
    jne 9f
6:  lock inc dword ptr [0x3000]
    jmp 2b
7:  mov edx, eax
9:  mov eax, esi
    mov dx, 0x18
    out dx, eax
    hlt
8:  mov dx, 0x1c
    out dx, eax
    hlt
pagelock_guest_end:
    .purgem give
    .purgem expect
    .purgem word
    .code64
    .popsection
    "#
);

/// The program; it runs wherever it lies.
#[cfg(target_arch = "x86_64")]
pub(crate) fn code() -> &'static [u8] {
    unsafe extern "C" {
        static pagelock_guest: u8;
        static pagelock_guest_end: u8;
    }
    // SAFETY: both labels are in one read-only section of this program, the second behind the
    // first.
    unsafe {
        let (begin, end) = (&raw const pagelock_guest, &raw const pagelock_guest_end);
        std::slice::from_raw_parts(begin, end.offset_from_unsigned(begin))
    }
}

/// No other processor runs it.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn code() -> &'static [u8] {
    &[]
}
