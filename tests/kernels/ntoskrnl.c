// A small kernel: the variables that a debugger reads, and functions that call each other as the real ones do.
// They are never run; what matters is their names, frames, unwind data, types, locals and lines.
#define NT
#include "common.h"

// ---- variables -----------------------------------------------------------------------------------------------------
#define LIST(name) struct _LIST_ENTRY name
LIST(PsLoadedModuleList); LIST(PsActiveProcessHead); LIST(ExpSystemResourcesList); LIST(IopErrorLogListHead);
LIST(KeBugCheckCallbackListHead); LIST(KeBugCheckReasonCallbackListHead); LIST(KdpDebuggerDataListHead);
LIST(HandleTableListHead); LIST(KiProcessListHead); LIST(MmLoadedUserImageList); LIST(CmpHiveListHead);
uchar KdDebuggerDataBlock[0x400], KdpDataBlockEncoded;
struct _DBGKD_GET_VERSION64 KdVersionBlock;
unsigned long long KiWaitNever, KiWaitAlways, KeBootTime;
struct _EPROCESS *PsInitialSystemProcess, *PsIdleProcess;
struct _HANDLE_TABLE *PspCidTable, *ObpKernelHandleTable;
struct _KPRCB *KiProcessorBlock[64];
ulong KeNumberProcessors, KeTimeIncrement, KeMaximumIncrement, KeTickCountLow, NtBuildNumber, CmNtCSDVersion;
ulong NtGlobalFlag, MmLastUnloadedDriver, IopNumTriageDumpDataBlocks, KeActiveProcessors;
uptr KiBugCheckData[5];
char NtBuildLab[64], NtBuildLabEx[128];
void *MmUnloadedDrivers, *IopTriageDumpDataBlocks[8];
struct _PHYSICAL_MEMORY_DESCRIPTOR *MmPhysicalMemoryBlock;
struct _MMPFN *MmPfnDatabase;
uptr MmHighestUserAddress, MmSystemRangeStart, MmUserProbeAddress, MmSizeOfPagedPoolInBytes;
#if BUILD < 19041
uptr MmNumberOfPhysicalPages, MmLowestPhysicalPage, MmHighestPhysicalPage;
uptr MmAvailablePages, MmResidentAvailablePages, MmTotalCommittedPages, MmTotalCommitLimit, MmTotalCommitLimitMaximum;
uptr MmTotalPagesForPagingFile, MmPeakCommitment, MmSharedCommit, MmDriverCommit, MmProcessCommit, MmPagedPoolCommit;
uptr MmPagedPoolEnd, MmSubsectionBase;
// Each version tells less of where its pools lie.
#if BUILD < 6000
uptr MmNonPagedPoolStart, MmNonPagedPoolEnd, MmPagedPoolStart;
#elif BUILD < 9600
uptr MmNonPagedPoolStart, MiNonPagedPoolEnd;
#ifdef __i386__
uchar MiSystemVaType[1024];
#endif
#else
uptr MiPagedPoolStart;
#endif
uptr MmMaximumNonPagedPoolInBytes, MmProtopteBase, MmAllocatedNonPagedPool, MmSizeOfPagedPoolInPages;
struct _MM_PAGED_POOL_INFO MmPagedPoolInfo;
struct _MMPFNLIST MmZeroedPageListHead, MmFreePageListHead, MmStandbyPageListHead, MmModifiedPageListHead;
struct _MMPFNLIST MmModifiedNoWritePageListHead, MmBadPageListHead;
ulong MmNumberOfPagingFiles, MmSecondaryColors;
struct _MMPAGING_FILE *MmPagingFile[16];
struct _POOL_DESCRIPTOR NonPagedPoolDescriptor, *PoolVector[2], *ExpPagedPoolDescriptor[17];
ulong ExpNumberOfPagedPools;
#if BUILD < 6000
uptr MmSystemLockPagesCount, MmTotalFreeSystemPtes[2], MmSizeOfNonPagedPoolInBytes;
void *MmFreePagesByColor[2];
#else
struct _MMPFNLIST MmStandbyPageListByPriority[8], *MmFreePagesByColor[2];
struct _MI_SYSTEM_PTE_TYPE MiSystemPteInfo;
uptr MmMdlPagesAllocated, MiSystemVaTypeCount[16];
#endif
#if BUILD < 9600
struct _MMPFNLIST MmModifiedPageListByColor[1];
#else
struct _MMPFNLIST MiModifiedPageListByReservation[16], MiModifiedPageListNoReservation;
#endif
#else
struct _MI_SYSTEM_INFORMATION MiState;
struct _MI_PARTITION MiSystemPartition;
struct _EX_POOL_HEAP_MANAGER_STATE ExPoolState;
struct _RTLP_HP_HEAP_GLOBALS RtlpHpHeapGlobals;
#endif
#if BUILD <= 19041
struct _POOL_TRACKER_TABLE *ExpSessionPoolTrackTable;
#endif
#if BUILD <= 22000
uptr ExpSessionPoolTrackTableSize;
#endif
struct _POOL_TRACKER_TABLE *PoolTrackTable;
struct _POOL_TRACKER_BIG_PAGES *PoolBigPageTable;
uptr PoolTrackTableSize, PoolBigPageTableSize, PoolTrackTableExpansionSize;
struct _POOL_TRACKER_TABLE *PoolTrackTableExpansion;
uptr ExpPoolBigEntriesInUse;
#if BUILD >= 6000
uptr PoolTrackTableMask;
#endif
struct _OBJECT_DIRECTORY *ObpRootDirectoryObject;
struct _OBJECT_TYPE *ObpTypeObjectType, *ObTypeIndexTable[80], *PsProcessType, *PsThreadType, *IoDriverObjectType;
struct _OBJECT_TYPE *IoDeviceObjectType, *IoFileObjectType, *ObpDirectoryObjectType, *SeTokenObjectType, *ExEventObjectType;
struct _OBJECT_TYPE *ExMutantObjectType, *MmSectionObjectType, *ExSemaphoreObjectType, *ObpSymbolicLinkObjectType;
struct _OBJECT_TYPE *PsJobType, *ExTimerObjectType, *IoCompletionObjectType;
LIST(PspJobList);
#if BUILD >= 10240
uchar ObHeaderCookie;
#endif
#if BUILD >= 7600
uchar ObpInfoMaskToOffset[256];
#endif
#if BUILD < 6000
LIST(KiDispatcherReadyListHead[32]); LIST(KiTimerTableListHead[256]);
ulong KiReadySummary;
#endif
struct _UNICODE_STRING *KiBugCheckDriver;
struct _ERESOURCE PsLoadedModuleResource, IopDatabaseResource, CmpRegistryLock;
struct _KEVENT ExpWorkerEvent;
struct _KQUEUE ExpDelayedQueue;
static volatile uptr KiSink;           // private: only in symbols with locals
static struct _KPRCB *KiCurrentPrcb;

#define WORK(x) (KiSink += (uptr)(x))
#define CURRENT() ((struct _ETHREAD *)OPAQUE(KiCurrentPrcb)->CurrentThread)

// ---- the entries in assembler --------------------------------------------------------------------------------------
uptr NTAPI KiSwapContext(struct _KTHREAD *from, struct _KTHREAD *to);

// ---- bug check -----------------------------------------------------------------------------------------------------
NOINLINE void NTAPI KiDisplayBlueScreen(ulong code) { WORK(code); }

NOINLINE void NTAPI KeBugCheck2(ulong code, uptr p1, uptr p2, uptr p3, uptr p4, struct _KTRAP_FRAME *frame) {
  uptr saved[32];
  for (int i = 0; i < 32; i++) saved[i] = OPAQUE(KiSink);
  KiBugCheckData[0] = code; KiBugCheckData[1] = p1; KiBugCheckData[2] = p2;
  KiBugCheckData[3] = p3 + saved[OPAQUE(KiSink) & 31]; KiBugCheckData[4] = p4;
  WORK(frame);
  KiDisplayBlueScreen(code);
}

API void NTAPI KeBugCheckEx(ulong code, uptr p1, uptr p2, uptr p3, uptr p4) {
  KeBugCheck2(code, p1, p2, p3, p4, 0);
  WORK(code);
}

NOINLINE void NTAPI KiBugCheckDispatch(ulong code, uptr p1, uptr p2, uptr p3, uptr p4) {
  KeBugCheckEx(code, p1, p2, p3, p4);
  WORK(p1);
}

NOINLINE int NTAPI MiResolveFault(uptr address, struct _EPROCESS *process) {
  struct _EX_PUSH_LOCK *lock = (struct _EX_PUSH_LOCK *)&process->ProcessLock;
  WORK(lock); WORK(address);
  return OPAQUE(KiSink) & 1;
}

NOINLINE void NTAPI MiSystemFault(uptr address, uptr ip, int write) {
  struct { uptr address, ip; int write; } fault = {address, ip, write};
  WORK(&fault);
  KeBugCheckEx(0x50, fault.address, fault.write, fault.ip, 0);
  WORK(fault.ip);
}

NOINLINE NTSTATUS NTAPI MmAccessFault(int write, uptr address, char mode, struct _KTRAP_FRAME *frame) {
  NTSTATUS status = 0;
  if (MiResolveFault(address, OPAQUE(PsInitialSystemProcess))) status = 0xc0000005;
  if (mode == 0) MiSystemFault(address, (uptr)frame, write);
  WORK(status);
  return status;
}

// ---- scheduler and waits -------------------------------------------------------------------------------------------
NOINLINE uptr NTAPI KiSwapThread(struct _KTHREAD *thread, struct _KPRCB *prcb) {
  struct _KTHREAD *next = prcb->NextThread;
  prcb->CurrentThread = next;
  uptr result = KiSwapContext(thread, next);
  WORK(result);
  return result;
}

NOINLINE NTSTATUS NTAPI KiCommitThreadWait(struct _KTHREAD *thread, struct _KWAIT_BLOCK *block, void *timeout) {
  uptr status;
  thread->State = 5;
  do status = KiSwapThread(thread, OPAQUE(KiCurrentPrcb)); while (status == 0x100);
  WORK(block); WORK(timeout);
  return (NTSTATUS)status;
}

API NTSTATUS NTAPI KeWaitForSingleObject(void *object, int reason, char mode, uchar alertable, void *timeout) {
  struct _KTHREAD *thread = &CURRENT()->Tcb;
  struct _DISPATCHER_HEADER *header = object;
  if (header->SignalState > 0) return 0;
  WORK(reason); WORK(mode); WORK(alertable);
  NTSTATUS status = KiCommitThreadWait(thread, (struct _KWAIT_BLOCK *)&thread->Teb, timeout);
  WORK(status);
  return status;
}

API NTSTATUS NTAPI KeWaitForMultipleObjects(ulong count, void **objects, int type, int reason, char mode, uchar alertable,
                                            void *timeout, struct _KWAIT_BLOCK *blocks) {
  struct _KTHREAD *thread = &CURRENT()->Tcb;
  for (ulong i = 0; i < count; i++) WORK(objects[i]);
  WORK(type); WORK(reason); WORK(mode); WORK(alertable);
  NTSTATUS status = KiCommitThreadWait(thread, blocks, timeout);
  WORK(status);
  return status;
}

API NTSTATUS NTAPI KeDelayExecutionThread(char mode, uchar alertable, void *interval) {
  WORK(mode); WORK(alertable);
  NTSTATUS status = KiCommitThreadWait(&CURRENT()->Tcb, 0, interval);
  WORK(status);
  return status;
}

API void *NTAPI KeRemoveQueueEx(struct _KQUEUE *queue, char mode, uchar alertable, void *timeout, void **entries, ulong count) {
  WORK(queue); WORK(mode); WORK(alertable); WORK(count);
  NTSTATUS status = KiCommitThreadWait(&CURRENT()->Tcb, 0, timeout);
  WORK(status);
  return entries;
}

// ---- resources -----------------------------------------------------------------------------------------------------
NOINLINE void NTAPI ExpWaitForResource(struct _ERESOURCE *resource, void *object) {
  long long limit = -40000000;
  while (KeWaitForSingleObject(object, 27, 0, 0, &limit) == 0x102) { resource->ContentionCount++; WORK(limit); }
}

API uchar NTAPI ExAcquireResourceExclusiveLite(struct _ERESOURCE *resource, uchar wait) {
  struct _ETHREAD *thread = CURRENT();
  if (resource->ActiveCount == 0) { resource->ActiveCount = 1; return 1; }
  if (!wait) return 0;
  ExpWaitForResource(resource, (void *)resource->ExclusiveWaiters);
  WORK(thread);
  return 1;
}

API uchar NTAPI ExAcquireResourceSharedLite(struct _ERESOURCE *resource, uchar wait) {
  if (resource->ActiveCount == 0 || !wait) return 0;
  ExpWaitForResource(resource, (void *)resource->SharedWaiters);
  WORK(resource);
  return 1;
}

// ---- pool ----------------------------------------------------------------------------------------------------------
NOINLINE void *NTAPI ExpAllocateBigPool(int type, uptr size, ulong tag) { WORK(type + size + tag); return (void *)KiSink; }

API void *NTAPI ExAllocatePoolWithTag(int type, uptr size, ulong tag) {
  void *block = size > 4080 ? ExpAllocateBigPool(type, size, tag) : (void *)OPAQUE(KiSink);
  WORK(block);
  return block;
}

API void NTAPI ExFreePoolWithTag(void *block, ulong tag) {
  struct _POOL_HEADER *header = (struct _POOL_HEADER *)block - 1;
  if (header->PoolTag != tag) KeBugCheckEx(0xc2, 0xa, (uptr)block, header->PoolTag, tag);
  WORK(header);
}

// ---- input and output ----------------------------------------------------------------------------------------------
API NTSTATUS FASTCALL IofCallDriver(struct _DEVICE_OBJECT *device, struct _IRP *irp) {
  Dispatch *table = (Dispatch *)device->DriverObject->MajorFunction;
  struct _IO_STACK_LOCATION *stack = *(struct _IO_STACK_LOCATION *volatile *)&irp->Tail;
  NTSTATUS status = table[stack->MajorFunction](device, irp);
  WORK(status);
  return status;
}

NOINLINE NTSTATUS NTAPI IopSynchronousServiceTail(struct _DEVICE_OBJECT *device, struct _IRP *irp, struct _FILE_OBJECT *file,
                                                  uchar deferred, char mode, uchar synchronous, int transfer) {
  NTSTATUS status = IofCallDriver(device, irp);
  if (status == PENDING && synchronous) status = KeWaitForSingleObject(&file->Event, 0, mode, 0, 0);
  WORK(deferred + transfer);
  return status;
}

NOINLINE NTSTATUS NTAPI IopXxxControlFile(void *handle, ulong code, void *input, ulong size, void *output, ulong length) {
  struct _FILE_OBJECT *file = handle;
  char buffer[96];
  for (ulong i = 0; i < size && i < sizeof buffer; i++) ((volatile char *)buffer)[i] = ((char *)input)[i];
  NTSTATUS status = IopSynchronousServiceTail(file->DeviceObject, (struct _IRP *)output, file, code & 1, 1, 1, (int)length);
  WORK(buffer[OPAQUE(KiSink) & 63]);
  return status;
}

API NTSTATUS NTAPI NtDeviceIoControlFile(void *handle, void *event, void *routine, void *context, void *status, ulong code,
                                         void *input, ulong size, void *output, ulong length) {
  WORK(event); WORK(routine); WORK(context); WORK(status);
  NTSTATUS result = IopXxxControlFile(handle, code, input, size, output, length);
  WORK(result);
  return result;
}

API NTSTATUS NTAPI NtReadFile(void *handle, void *event, void *routine, void *context, void *status, void *buffer, ulong length) {
  struct _FILE_OBJECT *file = handle;
  WORK(event); WORK(routine); WORK(context); WORK(buffer);
  NTSTATUS result = IopSynchronousServiceTail(file->DeviceObject, (struct _IRP *)status, file, 0, 1, 1, (int)length);
  WORK(result);
  return result;
}

API NTSTATUS NTAPI NtWaitForSingleObject(void *handle, uchar alertable, void *timeout) {
  NTSTATUS status = KeWaitForSingleObject(handle, 6, 1, alertable, timeout);
#ifndef __i386__
  __try { WORK(*(volatile int *)timeout); } __except (1) { status = 0xc0000005; }
#endif
  WORK(status);
  return status;
}

API NTSTATUS NTAPI NtWaitForMultipleObjects(ulong count, void **handles, int type, uchar alertable, void *timeout) {
  void *objects[8];
  for (ulong i = 0; i < count && i < 8; i++) ((void *volatile *)objects)[i] = handles[i];
  NTSTATUS status = KeWaitForMultipleObjects(count, objects, type, 6, 1, alertable, timeout, 0);
  WORK(objects[status & 7]);
  return status;
}

API NTSTATUS NTAPI NtDelayExecution(uchar alertable, void *interval) {
  NTSTATUS status = KeDelayExecutionThread(1, alertable, interval);
  WORK(status);
  return status;
}

API void NTAPI IoWriteErrorLogEntry(void *entry) {
  struct _LIST_ENTRY *links = entry;
  links->Blink = OPAQUE(IopErrorLogListHead.Blink);
  WORK(links);
}

// ---- system threads ------------------------------------------------------------------------------------------------
NOINLINE void NTAPI ExpWorkerThread(void *context) {
  for (;;) {
    void *entries[1];
    struct _WORK_QUEUE_ITEM *item = KeRemoveQueueEx(&ExpDelayedQueue, 0, 0, 0, entries, 1);
    ((void(NTAPI *)(void *))item->WorkerRoutine)(item->Parameter);
    WORK(context);
  }
}

NOINLINE void NTAPI KeBalanceSetManager(void *context) {
  void *objects[2] = {&ExpWorkerEvent, context};
  for (;;) WORK(KeWaitForMultipleObjects(2, objects, 1, 0, 0, 0, 0, 0));
}

NOINLINE void NTAPI MiModifiedPageWriter(void *context) {
  for (;;) WORK(KeWaitForSingleObject(&ExpWorkerEvent, 18, 0, 0, context));
}

NOINLINE void NTAPI PspSystemThreadStartup(void(NTAPI *routine)(void *), void *context) {
  WORK(context);
  routine(context);
  WORK(routine);
}

// A frame whose size is not known before it runs: it needs a frame pointer.
PAGED NOINLINE NTSTATUS NTAPI CmpParseKey(ulong length, const wchar_t *name) {
  volatile wchar_t *copy = __builtin_alloca(length * 2);
  for (ulong i = 0; i < length; i++) copy[i] = name[i];
  NTSTATUS status = KeWaitForSingleObject((void *)copy, 3, 0, 0, 0);
  WORK(copy[status & 1]);
  return status;
}

PAGED API NTSTATUS NTAPI NtOpenKey(void **key, ulong access, struct _UNICODE_STRING *name) {
  WORK(access);
  NTSTATUS status = CmpParseKey(name->Length / 2, (const wchar_t *)name->Buffer);
  *key = (void *)(uptr)status;
  return status;
}

// ---- idle, interrupts, deferred calls ------------------------------------------------------------------------------
NOINLINE uptr NTAPI KiLeaf(uptr a) { return a * 3 + 1; } // needs no frame: no unwind data at all on x64

NOINLINE void NTAPI PpmIdleExecuteTransition(struct _KPRCB *prcb) { WORK(prcb); WORK(KiLeaf(KiSink)); }

NOINLINE void NTAPI PoIdle(struct _KPRCB *prcb) {
  struct _KTHREAD *thread = prcb->IdleThread;
  PpmIdleExecuteTransition(prcb);
  WORK(thread);
}

NOINLINE void NTAPI KiIdleLoop(void) {
  for (;;) { struct _KPRCB *prcb = OPAQUE(KiCurrentPrcb); PoIdle(prcb); WORK(prcb); }
}

NOINLINE void NTAPI KiExecuteAllDpcs(struct _KPRCB *prcb, struct _KDPC *dpc) {
  ((void(NTAPI *)(void *, void *, void *, void *))dpc->DeferredRoutine)(dpc, dpc->DeferredContext, dpc->SystemArgument1, prcb);
  WORK(dpc);
}

NOINLINE void NTAPI KiRetireDpcList(struct _KPRCB *prcb) {
  struct _KDPC *dpc = *(struct _KDPC *volatile *)&prcb->CurrentThread;
  KiExecuteAllDpcs(prcb, dpc);
  WORK(dpc);
}

NOINLINE void NTAPI KiDispatchInterrupt(void *frame) {
  KiRetireDpcList(OPAQUE(KiCurrentPrcb));
  WORK(frame);
}

INITCODE NOINLINE void NTAPI KiInitializeKernel(struct _EPROCESS *process, struct _ETHREAD *thread) {
  PsInitialSystemProcess = process; PsIdleProcess = process;
  *(void **)&thread->StartAddress = (void *)ExpWorkerThread;
  WORK(KeBalanceSetManager); WORK(MiModifiedPageWriter); WORK(NtOpenKey);
  KiIdleLoop();
}

INITCODE API NTSTATUS NTAPI KiSystemStartup(void *loader) {
  KiCurrentPrcb = loader;
  KiInitializeKernel(loader, loader);
  WORK(loader);
  return 0;
}

// What the compiler calls by itself.
API void *memset(void *to, int value, __SIZE_TYPE__ size) { for (char *p = to; size--;) *(volatile char *)p++ = (char)value; return to; }
API void *memcpy(void *to, const void *from, __SIZE_TYPE__ size) {
  for (__SIZE_TYPE__ i = 0; i < size; i++) ((volatile char *)to)[i] = ((const char *)from)[i];
  return to;
}
#ifndef __i386__
API int __C_specific_handler(void *record, void *frame, void *context, void *dispatcher) { WORK(record); return 1; }
#endif
int _fltused;
