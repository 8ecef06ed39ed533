// Entries of the arm64 kernel. A trap is told to the unwinder with the machine frame code.
  .text
  .macro TRAP name, callee
  .globl \name
  .p2align 4
  .seh_proc \name
\name:
  .seh_trap_frame
  stp x29, x30, [sp, #-0x10]!
  .seh_save_fplr_x 16
  mov x29, sp
  .seh_set_fp
  .seh_endprologue
  mov x0, sp
  bl \callee
  nop
  .seh_startepilogue
  ldp x29, x30, [sp], #0x10
  .seh_save_fplr_x 16
  .seh_endepilogue
  ret
  .seh_endproc
  .endm

  .macro PLAIN name, size
  .globl \name
  .p2align 4
  .seh_proc \name
\name:
  stp x29, x30, [sp, #-\size]!
  .seh_save_fplr_x \size
  mov x29, sp
  .seh_set_fp
  .seh_endprologue
  .endm
  .macro PLAIN_END size
  nop
  .seh_startepilogue
  ldp x29, x30, [sp], #\size
  .seh_save_fplr_x \size
  .seh_endepilogue
  ret
  .seh_endproc
  .endm

  TRAP KiPageFault, KiKernelFault
  TRAP KiDpcInterrupt, KiDispatchInterrupt

  PLAIN KiKernelFault, 0x20
  bl MmAccessFault
  bl KiBugCheckDispatch
  PLAIN_END 0x20

  .globl KiSystemServiceCopyEnd
  PLAIN KiSystemService, 0x1b0
KiSystemServiceCopyEnd:
  blr x16
  PLAIN_END 0x1b0

  .globl KiSwapContext
  .p2align 4
  .seh_proc KiSwapContext
KiSwapContext:
  stp x19, x20, [sp, #-0x60]!
  .seh_save_regp_x x19, 0x60
  stp x21, x22, [sp, #0x10]
  .seh_save_regp x21, 0x10
  stp x23, x24, [sp, #0x20]
  .seh_save_regp x23, 0x20
  stp x25, x26, [sp, #0x30]
  .seh_save_regp x25, 0x30
  stp x27, x28, [sp, #0x40]
  .seh_save_regp x27, 0x40
  stp x29, x30, [sp, #0x50]
  .seh_save_fplr 0x50
  add x29, sp, #0x50
  .seh_add_fp 0x50
  .seh_endprologue
  bl SwapContext
  .seh_startepilogue
  ldp x29, x30, [sp, #0x50]
  .seh_save_fplr 0x50
  ldp x27, x28, [sp, #0x40]
  .seh_save_regp x27, 0x40
  ldp x25, x26, [sp, #0x30]
  .seh_save_regp x25, 0x30
  ldp x23, x24, [sp, #0x20]
  .seh_save_regp x23, 0x20
  ldp x21, x22, [sp, #0x10]
  .seh_save_regp x21, 0x10
  ldp x19, x20, [sp], #0x60
  .seh_save_regp_x x19, 0x60
  .seh_endepilogue
  ret
  .seh_endproc

  PLAIN SwapContext, 0x10
  nop
  PLAIN_END 0x10

  PLAIN KiStartSystemThread, 0x10
  bl PspSystemThreadStartup
  PLAIN_END 0x10
