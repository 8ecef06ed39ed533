// The user side of a system call on x86, as Windows has it: no frame pointer, and symbols that say so.
  .text
  .macro STUB name, number
  .globl _\name
  .p2align 4
  .cv_fpo_proc _\name 40
_\name:
  .cv_fpo_endprologue
  movl $\number, %eax
  calll _KiFastSystemCall
  retl $0x28
  .cv_fpo_endproc
  .section .drectve,"yn"
  .ascii " /export:_\name"
  .text
  .endm

  STUB NtWaitForSingleObject, 4
  STUB NtDeviceIoControlFile, 7
  STUB NtReadFile, 6
  STUB NtDelayExecution, 52

  .globl _KiFastSystemCall
  .p2align 4
  .cv_fpo_proc _KiFastSystemCall 0
_KiFastSystemCall:
  .cv_fpo_endprologue
  movl %esp, %edx
  sysenter
  .globl _KiFastSystemCallRet
_KiFastSystemCallRet:
  retl
  .cv_fpo_endproc

  .section .debug$S,"dr"
  .p2align 2
  .long 4
  .cv_fpo_data _NtWaitForSingleObject
  .cv_fpo_data _NtDeviceIoControlFile
  .cv_fpo_data _NtReadFile
  .cv_fpo_data _NtDelayExecution
  .cv_fpo_data _KiFastSystemCall
  .cv_stringtable
