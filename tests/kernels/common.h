// What every made image shares. The structures come from nt.h, written from a layout table.
#pragma once
#include "nt.h"

#define NOINLINE __attribute__((noinline, used))
#define API __declspec(dllexport) NOINLINE
#ifdef __i386__
#define NTAPI __stdcall
#define FASTCALL __fastcall
#else
#define NTAPI
#define FASTCALL
#endif

typedef __UINTPTR_TYPE__ uptr;
typedef unsigned long ulong;
typedef unsigned char uchar;
typedef long NTSTATUS;
#define PENDING 0x103
// Sections as drivers have them: thrown away after start, and pageable.
#define INITCODE __attribute__((section("INIT")))
#define PAGED __attribute__((section("PAGE")))

// Reads that the compiler must not reason about.
#define OPAQUE(x) (*(volatile __typeof__(x) *)&(x))

INITCODE NTSTATUS NTAPI DriverEntry(struct _DRIVER_OBJECT *driver, struct _UNICODE_STRING *path);
typedef NTSTATUS(NTAPI *Dispatch)(struct _DEVICE_OBJECT *device, struct _IRP *irp);
#ifndef NT
__declspec(dllimport) void NTAPI KeBugCheckEx(ulong, uptr, uptr, uptr, uptr);
__declspec(dllimport) NTSTATUS FASTCALL IofCallDriver(struct _DEVICE_OBJECT *, struct _IRP *);
__declspec(dllimport) void *NTAPI ExAllocatePoolWithTag(int, uptr, ulong);
__declspec(dllimport) void NTAPI ExFreePoolWithTag(void *, ulong);
__declspec(dllimport) uchar NTAPI ExAcquireResourceExclusiveLite(struct _ERESOURCE *, uchar);
__declspec(dllimport) uchar NTAPI ExAcquireResourceSharedLite(struct _ERESOURCE *, uchar);
__declspec(dllimport) void NTAPI IoWriteErrorLogEntry(void *);
__declspec(dllimport) NTSTATUS NTAPI KeWaitForSingleObject(void *, int, char, uchar, void *);
__declspec(dllimport) NTSTATUS NTAPI KeDelayExecutionThread(char, uchar, void *);
#endif
