// Entries of the 32-bit kernel. A trap frame begins with the caller's frame pointer and program counter, so that it
// is a link of the chain of frame pointers. The switch tells its frame with frame data.
  .text
  .macro TRAP_FRAME from
  pushl %ebp
  pushl %ebx
  pushl %esi
  pushl %edi
  pushl %fs
  subl $\from, %esp
  movl %esp, %ebp
  .endm

  .globl _KiTrap0E
  .p2align 4
_KiTrap0E:
  TRAP_FRAME 0x50
  movl %cr2, %edi
  pushl %ebp
  pushl $0
  pushl %edi
  pushl $0
  calll _MmAccessFault@16
  testl %eax, %eax
  jz 1f
  pushl $0
  pushl $0
  pushl $0
  pushl %edi
  pushl $10
  calll _KiBugCheckDispatch@20
  nop
1: addl $0x64, %esp
  iretl

  .globl _KiDpcInterrupt
  .p2align 4
_KiDpcInterrupt:
  pushl $0
  TRAP_FRAME 0x50
  pushl %ebp
  calll _KiDispatchInterrupt@4
  nop
  addl $0x68, %esp
  iretl

  .globl _KiFastCallEntry
  .globl _KiSystemServicePostCall
  .p2align 4
_KiFastCallEntry:
  pushl $0
  TRAP_FRAME 0x50
  calll *%ebx
_KiSystemServicePostCall:
  nop
  addl $0x68, %esp
  iretl

  .globl _KiSwapContext@8
  .p2align 4
  .cv_fpo_proc _KiSwapContext@8 8
_KiSwapContext@8:
  pushl %ebp
  .cv_fpo_pushreg %ebp
  pushl %ebx
  .cv_fpo_pushreg %ebx
  pushl %esi
  .cv_fpo_pushreg %esi
  pushl %edi
  .cv_fpo_pushreg %edi
  .cv_fpo_endprologue
  movl 0x14(%esp), %edi
  movl 0x18(%esp), %esi
  calll _SwapContext
  popl %edi
  popl %esi
  popl %ebx
  popl %ebp
  retl $8
  .cv_fpo_endproc

  .globl _SwapContext
  .p2align 4
  .cv_fpo_proc _SwapContext 0
_SwapContext:
  subl $8, %esp
  .cv_fpo_stackalloc 8
  .cv_fpo_endprologue
  movl %esp, 0x30(%edi)
  nop
  movl 0x30(%esi), %esp
  addl $8, %esp
  retl
  .cv_fpo_endproc

  .globl _KiStartSystemThread
  .p2align 4
_KiStartSystemThread:
  pushl %ebp
  movl %esp, %ebp
  subl $8, %esp
  calll _PspSystemThreadStartup@8
  nop
  movl %ebp, %esp
  popl %ebp
  retl

// No frame pointer, locals, parameters, ebp as an ordinary register.
  .globl _KiFramelessSum@12
  .p2align 4
  .cv_fpo_proc _KiFramelessSum@12 12
_KiFramelessSum@12:
  subl $0x40, %esp
  .cv_fpo_stackalloc 0x40
  pushl %ebx
  .cv_fpo_pushreg %ebx
  pushl %ebp
  .cv_fpo_pushreg %ebp
  .cv_fpo_endprologue
  movl 0x4c(%esp), %ebp
  movl 0x50(%esp), %ebx
  addl %ebp, %ebx
  testl %ebx, %ebx
  jz 1f
  movl %ebx, %eax
  popl %ebp
  popl %ebx
  addl $0x40, %esp
  retl $12
1:
  xorl %eax, %eax
  popl %ebp
  popl %ebx
  addl $0x40, %esp
  retl $12
  .cv_fpo_endproc

  .section .debug$S,"dr"
  .p2align 2
  .long 4
  .cv_fpo_data _KiSwapContext@8
  .cv_fpo_data _SwapContext
  .cv_fpo_data _KiFramelessSum@12
  .cv_stringtable

  .text
  .globl __chkstk
__chkstk:
  popl %ecx
  subl %eax, %esp
  jmpl *%ecx
