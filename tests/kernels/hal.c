// The hardware layer.
#include "common.h"
static volatile uptr HalpSink;
API void NTAPI HalProcessorIdle(void) { HalpSink++; }
API long long NTAPI KeQueryPerformanceCounter(long long *frequency) { if (frequency) *frequency = 10000000; return HalpSink; }
NOINLINE void NTAPI HalpStall(ulong microseconds) { while (microseconds--) HalpSink++; }
API void NTAPI KeStallExecutionProcessor(ulong microseconds) { HalpStall(microseconds); HalpSink++; }
NTSTATUS NTAPI DriverEntry(struct _DRIVER_OBJECT *driver, struct _UNICODE_STRING *path) { HalpSink += (uptr)driver + (uptr)path; return 0; }
