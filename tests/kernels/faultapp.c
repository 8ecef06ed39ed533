// A program that asks the driver, and waits.
#include "common.h"
#ifdef __i386__
__declspec(dllimport) NTSTATUS NtDeviceIoControlFile(), NtWaitForSingleObject();
#else
__declspec(dllimport) NTSTATUS NtDeviceIoControlFile(void *, void *, void *, void *, void *, ulong, void *, ulong, void *, ulong);
__declspec(dllimport) NTSTATUS NtWaitForSingleObject(void *, uchar, void *);
#endif
static volatile uptr Sink;
NOINLINE ulong AskDriver(void *device, ulong code) {
  uptr status[2]; char input[32] = {0}, output[64];
  Sink += NtDeviceIoControlFile(device, (void *)0, (void *)0, (void *)0, status, code, input, 32ul, output, 64ul);
  return (ulong)output[Sink & 63];
}
NOINLINE ulong WaitLong(void *object) { Sink += NtWaitForSingleObject(object, 0, (void *)0); return (ulong)Sink; }
NOINLINE void NTAPI Worker(void *context) { for (;;) Sink += WaitLong(context); }
NOINLINE void NTAPI WinMainCRTStartup(void *context) { Sink += (uptr)Worker; for (;;) Sink += AskDriver(context, 0x222004); }
