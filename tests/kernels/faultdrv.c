// Somebody's driver: reads a sensor through a pointer that was freed, logs errors, and loses pool.
#include "common.h"
struct SENSOR { ulong Magic; ulong Value; struct _LIST_ENTRY Links; };
struct EXTENSION { struct SENSOR *Sensor; ulong Reads; struct _KTIMER Timer; struct _KDPC Dpc; };
static volatile uptr Sink;
static struct EXTENSION *Device;

NOINLINE void NTAPI SelectChannel(ulong channel) { Sink += channel; }

static __inline __attribute__((always_inline)) ulong SensorValue(struct SENSOR *from) {
  ulong read = *(volatile ulong *)&from->Value;
  Sink += read;
  return read;
}
NOINLINE ulong NTAPI ReadSensor(struct SENSOR *sensor, ulong channel) {
  SelectChannel(channel);
  ulong value = SensorValue(sensor);
  Sink += channel;
  return value + channel;
}
NOINLINE NTSTATUS NTAPI DispatchDeviceControl(struct _DEVICE_OBJECT *device, struct _IRP *irp) {
  struct EXTENSION *extension = device->DeviceExtension;
  ulong total = 0;
  for (ulong channel = 0; channel < 4; channel++) total += ReadSensor(extension->Sensor, channel);
  extension->Reads += total;
  Sink += (uptr)irp;
  return 0;
}
NOINLINE NTSTATUS NTAPI DispatchRead(struct _DEVICE_OBJECT *device, struct _IRP *irp) {
  struct EXTENSION *extension = device->DeviceExtension;
  NTSTATUS status = KeWaitForSingleObject(&extension->Timer, 0, 0, 0, 0);
  Sink += (uptr)irp;
  return status;
}
NOINLINE void NTAPI TimerDpc(struct _KDPC *dpc, void *context, void *a, void *b) {
  struct EXTENSION *extension = context;
  extension->Reads += ReadSensor(extension->Sensor, (ulong)(uptr)a);
  Sink += (uptr)dpc + (uptr)b;
}
NOINLINE void NTAPI LeakThread(void *context) {
  for (;;) {
    void *lost = ExAllocatePoolWithTag(0, 0x200, 'kaeL');
    Sink += (uptr)lost;
    KeDelayExecutionThread(0, 0, context);
  }
}
NTSTATUS NTAPI DriverEntry(struct _DRIVER_OBJECT *driver, struct _UNICODE_STRING *path) {
  ((Dispatch *)driver->MajorFunction)[14] = DispatchDeviceControl;
  ((Dispatch *)driver->MajorFunction)[3] = DispatchRead;
  Device = ExAllocatePoolWithTag(0, sizeof *Device, 'vrdF');
  Sink += (uptr)path + (uptr)TimerDpc + (uptr)LeakThread;
  IoWriteErrorLogEntry(driver);
  return 0;
}
