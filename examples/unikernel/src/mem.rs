//! `memcpy` and its kin. The compiler calls them, and on the target of a hosted system a C library
//! has them, and not `core`.
//!
//! Without SSE and without a stack frame, so they may run anywhere, and with `rep`, which a page
//! fault interrupts and resumes.

use core::arch::global_asm;

global_asm!(
    r#"
.globl memcpy, memmove, memset, memcmp, bcmp, strlen
memmove:
    movq %rdi, %rax
    subq %rsi, %rax
    cmpq %rdx, %rax
    jb 1f                           # the destination begins within the source: backwards
memcpy:
    movq %rdi, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep movsq
    movl %edx, %ecx
    andl $7, %ecx
    rep movsb
    ret
1:  movq %rdi, %rax
    movq %rdx, %rcx
    leaq -1(%rdi, %rdx), %rdi
    leaq -1(%rsi, %rdx), %rsi
    std
    rep movsb
    cld
    ret
memset:
    movq %rdi, %r8
    movzbl %sil, %eax
    movabsq $0x0101010101010101, %rcx
    imulq %rcx, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep stosq
    movl %edx, %ecx
    andl $7, %ecx
    rep stosb
    movq %r8, %rax
    ret
bcmp:
memcmp:
    xorl %eax, %eax
    movq %rdx, %rcx
    testq %rcx, %rcx
    jz 2f
    repe cmpsb
    je 2f
    movzbl -1(%rdi), %eax
    movzbl -1(%rsi), %ecx
    subl %ecx, %eax
2:  ret
strlen:
    xorl %eax, %eax
3:  cmpb $0, (%rdi, %rax)
    je 4f
    incq %rax
    jmp 3b
4:  ret
"#,
    options(att_syntax)
);
