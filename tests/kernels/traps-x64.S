// Entries of the x64 kernel: what the processor, a system call or the scheduler enters. Unwind data by hand.
  .text
  .macro TRAP_FRAME
  pushq %rbp
  .seh_pushreg %rbp
  subq $0x158, %rsp
  .seh_stackalloc 0x158
  leaq 0x80(%rsp), %rbp
  .seh_setframe %rbp, 0x80
  .seh_endprologue
  movb $1, -0x55(%rbp)
  movq %rax, -0x50(%rbp)
  movq %rcx, -0x48(%rbp)
  movq %rdx, -0x40(%rbp)
  .endm
  .macro RESTORE
  movq -0x50(%rbp), %rax
  movq 0xd8(%rbp), %rbp
  addq $0x168, %rsp
  iretq
  .endm

  .globl KiPageFault
  .p2align 6
  .seh_proc KiPageFault
KiPageFault:
  .seh_pushframe @code
  TRAP_FRAME
  movq %cr2, %rdx
  movq %rdx, 0x50(%rbp)
  callq MmAccessFault
  testl %eax, %eax
  jz 1f
  callq KiBugCheckDispatch
  nop
1: RESTORE
  .seh_endproc

  .globl KiDpcInterrupt
  .p2align 6
  .seh_proc KiDpcInterrupt
KiDpcInterrupt:
  .seh_pushframe
  subq $8, %rsp
  .seh_stackalloc 8
  TRAP_FRAME
  callq KiDispatchInterrupt
  nop
  RESTORE
  .seh_endproc

  .globl KiSystemCall64
  .globl KiSystemServiceUser
  .globl KiSystemServiceCopyEnd
  .p2align 6
  .seh_proc KiSystemCall64
KiSystemCall64:
  .seh_pushframe
  subq $8, %rsp
  .seh_stackalloc 8
  TRAP_FRAME
KiSystemServiceUser:
  movb $2, -0x55(%rbp)
  movq %r10, %rcx
KiSystemServiceCopyEnd:
  callq *%rax
  nop
  RESTORE
  .seh_endproc

  .globl KiSwapContext
  .p2align 6
  .seh_proc KiSwapContext
KiSwapContext:
  subq $0x138, %rsp
  .seh_stackalloc 0x138
  leaq 0x100(%rsp), %rax
  movaps %xmm6, 0x30(%rsp)
  .seh_savexmm %xmm6, 0x30
  movaps %xmm7, 0x40(%rsp)
  .seh_savexmm %xmm7, 0x40
  movq %rbx, 0x118(%rsp)
  .seh_savereg %rbx, 0x118
  movq %rdi, 0x120(%rsp)
  .seh_savereg %rdi, 0x120
  movq %rsi, 0x128(%rsp)
  .seh_savereg %rsi, 0x128
  .seh_endprologue
  callq SwapContext
  movaps 0x30(%rsp), %xmm6
  movaps 0x40(%rsp), %xmm7
  movq 0x118(%rsp), %rbx
  movq 0x120(%rsp), %rdi
  movq 0x128(%rsp), %rsi
  addq $0x138, %rsp
  retq
  .seh_endproc

  .globl SwapContext
  .p2align 6
  .seh_proc SwapContext
SwapContext:
  pushq %rbp
  .seh_pushreg %rbp
  subq $0x30, %rsp
  .seh_stackalloc 0x30
  .seh_endprologue
  movq %rsp, 0x58(%rdi)
  nop
  movq 0x58(%rsi), %rsp
  addq $0x30, %rsp
  popq %rbp
  retq
  .seh_endproc

  .globl KiStartSystemThread
  .p2align 6
  .seh_proc KiStartSystemThread
KiStartSystemThread:
  subq $0x38, %rsp
  .seh_stackalloc 0x38
  .seh_endprologue
  movl $1, %ecx
  movq 0x20(%rsp), %rcx
  callq PspSystemThreadStartup
  xorl %eax, %eax
  nop
  .seh_endproc

// A function in two parts: the second saves a register more and is chained to the first.
  .globl KiRestoreDebugRegisterState
  .p2align 6
  .seh_proc KiRestoreDebugRegisterState
KiRestoreDebugRegisterState:
  pushq %rbx
  .seh_pushreg %rbx
  subq $0x20, %rsp
  .seh_stackalloc 0x20
  .seh_endprologue
  testq %rcx, %rcx
  jz 1f
  .seh_startchained
  movq %rsi, 0x38(%rsp)
  .seh_savereg %rsi, 0x38
  .seh_endprologue
  movq %rcx, %rsi
  callq KiLeaf
  movq 0x38(%rsp), %rsi
  nop
  .seh_endchained
1:
  addq $0x20, %rsp
  popq %rbx
  retq
  .seh_endproc

// Everything a prologue can do: pushes, a large frame, a frame pointer inside it, saved registers near and far, vector
// registers; two epilogues, the first by way of the frame pointer.
  .globl KiLargeFrame
  .p2align 6
  .seh_proc KiLargeFrame
KiLargeFrame:
  pushq %rbp
  .seh_pushreg %rbp
  pushq %r15
  .seh_pushreg %r15
  pushq %rbx
  .seh_pushreg %rbx
  subq $0x81230, %rsp
  .seh_stackalloc 0x81230
  leaq 0x40(%rsp), %rbp
  .seh_setframe %rbp, 0x40
  movq %rsi, 0x50(%rsp)
  .seh_savereg %rsi, 0x50
  movq %rdi, 0x81200(%rsp)
  .seh_savereg %rdi, 0x81200
  movaps %xmm6, 0x60(%rsp)
  .seh_savexmm %xmm6, 0x60
  .seh_endprologue
  movq %rcx, %rbx
  testq %rcx, %rcx
  jz 1f
  callq KiLeaf
  movq 0x50(%rsp), %rsi
  movq 0x81200(%rsp), %rdi
  leaq 0x811f0(%rbp), %rsp
  popq %rbx
  popq %r15
  popq %rbp
  retq
1:
  movq 0x50(%rsp), %rsi
  movq 0x81200(%rsp), %rdi
  addq $0x81230, %rsp
  popq %rbx
  popq %r15
  popq %rbp
  jmp KiLeaf
  .seh_endproc
