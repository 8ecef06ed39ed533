// The user side of a system call.
#include "common.h"
static volatile uptr LdrpSink;
#if defined(__x86_64__)
#define STUB(name, number) __asm__(".globl " #name "\n" #name ":\n movq %rcx, %r10\n movl $" #number ", %eax\n syscall\n retq\n .section .drectve,\"yn\"\n .ascii \" /export:" #name "\"\n .text\n")
#elif defined(__i386__)
#define STUB(name, number) // in calls-x86.S
#else
#define STUB(name, number) __asm__(".globl " #name "\n" #name ":\n svc #" #number "\n ret\n .section .drectve,\"yn\"\n .ascii \" /export:" #name "\"\n .text\n")
#endif
__asm__(".text\n");
STUB(NtWaitForSingleObject, 4);
STUB(NtDeviceIoControlFile, 7);
STUB(NtReadFile, 6);
STUB(NtDelayExecution, 52);
API void NTAPI RtlUserThreadStart(void(NTAPI *start)(void *), void *context) { start(context); LdrpSink++; }
API void NTAPI LdrInitializeThunk(void *context) { LdrpSink += (uptr)context; }
int NTAPI DllMain(void *module, ulong reason, void *context) { LdrpSink += reason + (uptr)module + (uptr)context; return 1; }
