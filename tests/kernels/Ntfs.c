// A file system: takes resources and passes requests down.
#include "common.h"
struct NTFS_VCB { struct _ERESOURCE Resource; struct _DEVICE_OBJECT *Target; ulong Flags; };
struct NTFS_FCB { struct _ERESOURCE Resource; struct _ERESOURCE PagingResource; struct NTFS_VCB *Vcb; unsigned long long Reference; };
static volatile uptr NtfsSink;
struct NTFS_VCB NtfsVcb;

NOINLINE void NTAPI NtfsAcquireExclusiveFcb(struct NTFS_FCB *fcb) {
  if (!ExAcquireResourceExclusiveLite(&fcb->Resource, 1)) NtfsSink++;
}
NOINLINE void NTAPI NtfsAcquireSharedVcb(struct NTFS_VCB *vcb) {
  if (!ExAcquireResourceSharedLite(&vcb->Resource, 1)) NtfsSink++;
}
NOINLINE void NTAPI NtfsAcquireExclusiveVcb(struct NTFS_VCB *vcb) {
  if (!ExAcquireResourceExclusiveLite(&vcb->Resource, 1)) NtfsSink++;
}
NOINLINE NTSTATUS NTAPI NtfsCommonRead(struct NTFS_FCB *fcb, struct _IRP *irp) {
  NtfsAcquireExclusiveFcb(fcb);
  NTSTATUS status = IofCallDriver(fcb->Vcb->Target, irp);
  NtfsSink += status;
  return status;
}
NOINLINE NTSTATUS NTAPI NtfsCommonWrite(struct NTFS_FCB *fcb, struct _IRP *irp) {
  char scratch[64];
  for (int i = 0; i < 64; i++) ((volatile char *)scratch)[i] = (char)NtfsSink;
  NtfsAcquireExclusiveVcb(fcb->Vcb);
  NtfsAcquireSharedVcb(fcb->Vcb);
  NtfsSink += (uptr)irp + scratch[NtfsSink & 63];
  return 0;
}
NOINLINE NTSTATUS NTAPI NtfsFsdRead(struct _DEVICE_OBJECT *device, struct _IRP *irp) {
  NTSTATUS status = NtfsCommonRead((struct NTFS_FCB *)device->DeviceExtension, irp);
  NtfsSink += status;
  return status;
}
NOINLINE NTSTATUS NTAPI NtfsFsdWrite(struct _DEVICE_OBJECT *device, struct _IRP *irp) {
  NTSTATUS status = NtfsCommonWrite((struct NTFS_FCB *)device->DeviceExtension, irp);
  NtfsSink += status;
  return status;
}
NTSTATUS NTAPI DriverEntry(struct _DRIVER_OBJECT *driver, struct _UNICODE_STRING *path) {
  ((Dispatch *)driver->MajorFunction)[3] = NtfsFsdRead;
  ((Dispatch *)driver->MajorFunction)[4] = NtfsFsdWrite;
  NtfsSink += (uptr)path;
  return 0;
}
