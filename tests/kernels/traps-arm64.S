// Entries of the arm64 kernel. That a trap frame is on the stack is told to the unwinder with the code for it.
  .text
  .macro TRAP name
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
  add x0, sp, #0x10
  .endm
  .macro TRAP_END
  nop
  .seh_startepilogue
  ldp x29, x30, [sp], #0x10
  .seh_save_fplr_x 16
  .seh_trap_frame
  .seh_endepilogue
  eret
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

  TRAP KiKernelFault
  bl MmAccessFault
  bl KiBugCheckDispatch
  TRAP_END

  TRAP KiDpcInterrupt
  bl KiDispatchInterrupt
  TRAP_END

  .globl KiSystemServiceCopyEnd
  TRAP KiSystemService
KiSystemServiceCopyEnd:
  blr x16
  TRAP_END

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

// Has no frame: the stack pointer goes to the thread's KernelStack, fp and lr to its SwitchFrame.
  .globl SwapContext
  .p2align 4
SwapContext:
  mov x9, sp
  str x9, [x0, #0x58]
  add x10, x0, #0x210
  stp x29, x30, [x10, #0x10]
  ldr x9, [x1, #0x58]
  mov sp, x9
  add x10, x1, #0x210
  ldp x29, x30, [x10, #0x10]
  ret

  PLAIN KiStartSystemThread, 0x10
  bl PspSystemThreadStartup
  PLAIN_END 0x10

// A signed return address, registers in pairs that follow each other, two epilogues.
  .globl KiSignedFrame
  .p2align 4
  .seh_proc KiSignedFrame
KiSignedFrame:
  pacibsp
  .seh_pac_sign_lr
  stp x19, x20, [sp, #-0x40]!
  .seh_save_regp_x x19, 0x40
  stp x21, x22, [sp, #0x10]
  .seh_save_next
  stp x23, x24, [sp, #0x20]
  .seh_save_next
  stp x29, x30, [sp, #0x30]
  .seh_save_fplr 0x30
  add x29, sp, #0x30
  .seh_add_fp 0x30
  .seh_endprologue
  mov x19, x0
  cbz x0, 1f
  bl KiLeaf
  .seh_startepilogue
  ldp x29, x30, [sp, #0x30]
  .seh_save_fplr 0x30
  ldp x23, x24, [sp, #0x20]
  .seh_save_next
  ldp x21, x22, [sp, #0x10]
  .seh_save_next
  ldp x19, x20, [sp], #0x40
  .seh_save_regp_x x19, 0x40
  autibsp
  .seh_pac_sign_lr
  .seh_endepilogue
  ret
1:
  mov x0, #1
  .seh_startepilogue
  ldp x29, x30, [sp, #0x30]
  .seh_save_fplr 0x30
  ldp x23, x24, [sp, #0x20]
  .seh_save_next
  ldp x21, x22, [sp, #0x10]
  .seh_save_next
  ldp x19, x20, [sp], #0x40
  .seh_save_regp_x x19, 0x40
  autibsp
  .seh_pac_sign_lr
  .seh_endepilogue
  ret
  .seh_endproc

// Vector registers, single registers, a frame of more than a page.
  .globl KiLargeFrame
  .p2align 4
  .seh_proc KiLargeFrame
KiLargeFrame:
  stp d8, d9, [sp, #-0x50]!
  .seh_save_fregp_x d8, 0x50
  str d10, [sp, #0x10]
  .seh_save_freg d10, 0x10
  str x25, [sp, #0x18]
  .seh_save_reg x25, 0x18
  stp x19, x30, [sp, #0x20]
  .seh_save_lrpair x19, 0x20
  stp x21, x22, [sp, #0x30]
  .seh_save_regp x21, 0x30
  sub sp, sp, #0x1000
  .seh_stackalloc 0x1000
  sub sp, sp, #0x230
  .seh_stackalloc 0x230
  .seh_endprologue
  bl KiLeaf
  nop
  .seh_startepilogue
  add sp, sp, #0x230
  .seh_stackalloc 0x230
  add sp, sp, #0x1000
  .seh_stackalloc 0x1000
  ldp x21, x22, [sp, #0x30]
  .seh_save_regp x21, 0x30
  ldp x19, x30, [sp, #0x20]
  .seh_save_lrpair x19, 0x20
  ldr x25, [sp, #0x18]
  .seh_save_reg x25, 0x18
  ldr d10, [sp, #0x10]
  .seh_save_freg d10, 0x10
  ldp d8, d9, [sp], #0x50
  .seh_save_fregp_x d8, 0x50
  .seh_endepilogue
  ret
  .seh_endproc

// Functions whose unwind data is one packed word, as Microsoft's compiler writes it for most: words by hand, bits of
// function length / 4, vector registers, integer registers, homed parameters, link register, frame size / 16.
  .macro PACKED name, end, vectors, integers, link, size
  .section .pdata,"dr"
  .p2align 2
  .rva \name
  .long 1 + ((\end - \name) / 4) * 4 + (\vectors << 13) + (\integers << 16) + (\link << 21) + ((\size / 16) << 23)
  .text
  .endm

  .globl KiPackedChain
  .p2align 4
KiPackedChain:
  stp x19, x20, [sp, #-0x20]!
  stp x21, x22, [sp, #0x10]
  stp x29, x30, [sp, #-0x30]!
  mov x29, sp
  mov x19, x0
  bl KiLeaf
  ldp x29, x30, [sp], #0x30
  ldp x21, x22, [sp, #0x10]
  ldp x19, x20, [sp], #0x20
  ret
1:
  PACKED KiPackedChain, 1b, 0, 4, 3, 0x50

  .globl KiPackedLink
  .p2align 4
KiPackedLink:
  stp x19, x20, [sp, #-0x20]!
  stp x21, x30, [sp, #0x10]
  sub sp, sp, #0x20
  mov x19, x0
  bl KiLeaf
  add sp, sp, #0x20
  ldp x21, x30, [sp, #0x10]
  ldp x19, x20, [sp], #0x20
  ret
1:
  PACKED KiPackedLink, 1b, 0, 3, 1, 0x40

  .globl KiPackedSigned
  .p2align 4
KiPackedSigned:
  pacibsp
  stp x19, x20, [sp, #-0x20]!
  stp d8, d9, [sp, #0x10]
  stp x29, x30, [sp, #-0x20]!
  mov x29, sp
  bl KiLeaf
  ldp x29, x30, [sp], #0x20
  ldp d8, d9, [sp, #0x10]
  ldp x19, x20, [sp], #0x20
  autibsp
  ret
1:
  PACKED KiPackedSigned, 1b, 1, 2, 2, 0x40
