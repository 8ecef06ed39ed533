#!/bin/sh
# Builds the laboratory's kernels: build.sh FOLDER [GENERATION…]. Needs clang, lld-link, llvm-rc 19 and python3.
# The same bytes every time: no paths, times or environment get in.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- $(cd "$here/layouts" && ls *.txt | sed 's/\.txt$//')
suffix=${LLVM_SUFFIX--19}

for generation; do
  case $generation in
    x86-*) target=i686; machine=x86; cpu="-fno-omit-frame-pointer -mno-sse -mllvm -no-x86-call-frame-opt"; rc=X86 ;;
    x64-*) target=x86_64; machine=x64; cpu="-mno-red-zone -mno-stack-arg-probe"; rc=X64 ;;
    arm64-*) target=aarch64; machine=arm64; cpu="-fno-omit-frame-pointer -mno-stack-arg-probe"; rc=ARM64 ;;
  esac
  build=${generation#*-}
  case $build in
    2600) major=5 minor=1 revision=5512 ;;
    7601) major=6 minor=1 revision=24524 ;;
    9600) major=6 minor=3 revision=18756 ;;
    *) major=10 minor=0 revision=1348 ;;
  esac
  dir=$out/$generation
  rm -rf "$dir"
  mkdir -p "$dir/obj"
  cd "$dir" # relative names only: absolute ones would get into the symbols
  python3 "$here/headers.py" "$here/layouts/$generation.txt" > obj/nt.h
  flags="--target=$target-pc-windows-msvc -O1 -g -gcodeview -gno-codeview-command-line -ffreestanding -fno-builtin
    -fms-extensions -fasynchronous-unwind-tables -fasync-exceptions -fno-inline -fno-optimize-sibling-calls -fno-stack-protector -w -DBUILD=$build -I$here -Iobj $cpu
    -ffile-prefix-map=$here=C:\\kernels -ffile-prefix-map=obj=C:\\kernels -fdebug-compilation-dir=C:\\kernels"

  # NAME FILE PDB EXTENSION-OPTIONS…
  image() {
    name=$1 file=$2 pdb=$3 company=$4 description=$5
    shift 5
    all=; [ "$name" != ntoskrnl ] || all=-fno-eliminate-unused-debug-types
    clang$suffix $flags $all -c "$here/$name.c" -o "obj/$name.obj"
    printf '#define MAJOR %s\n#define MINOR %s\n#define BUILD %s\n#define REVISION %s\n#define VERSION_TEXT "%s.%s.%s.%s"\n#define NAME "%s"\n#define COMPANY "%s"\n#define DESCRIPTION "%s"\n#include "version.rc"\n' \
      $major $minor $build $revision $major $minor $build $revision "$file" "$company" "$description" > "obj/$name.rc"
    llvm-rc$suffix /I "$here" /FO "obj/$name.res" "obj/$name.rc"
    lld-link$suffix /nologo /threads:1 /nodefaultlib /machine:$machine /debug:full /release /opt:noref /opt:noicf /safeseh:no \
      /timestamp:$((0x66210000 + build)) /out:"$file" /pdb:"$pdb" /pdbaltpath:"$pdb" \
      /pdbsourcepath:'C:\kernels' "obj/$name.obj" "obj/$name.res" "$@"
  }

  clang$suffix $flags -c "$here/traps-$machine.S" -o "obj/traps.obj"
  kernel_pdb=ntkrnlmp.pdb
  entry() { if [ $machine = x86 ]; then echo "$1@$2"; else echo "$1"; fi; }
  [ $machine != x86 ] || kernel_pdb=ntkrpamp.pdb
  native="/subsystem:native /driver"
  image ntoskrnl ntoskrnl.exe $kernel_pdb "Microsoft Corporation" "NT Kernel & System" "obj/traps.obj" \
    $native /entry:$(entry KiSystemStartup 4) /implib:"obj/nt.lib" /export:KeNumberProcessors,DATA \
    /export:NtBuildNumber,DATA /export:PsInitialSystemProcess,DATA
  image hal hal.dll hal.pdb "Microsoft Corporation" "Hardware Abstraction Layer DLL" $native \
    /entry:$(entry DriverEntry 8) "obj/nt.lib" /implib:"obj/hal.lib"
  image Ntfs Ntfs.sys ntfs.pdb "Microsoft Corporation" "NT File System Driver" $native \
    /entry:$(entry DriverEntry 8) "obj/nt.lib"
  image faultdrv faultdrv.sys faultdrv.pdb "Example Devices" "Sensor driver" $native \
    /entry:$(entry DriverEntry 8) "obj/nt.lib"
  calls=
  if [ $machine = x86 ]; then
    clang$suffix $flags -c "$here/calls-x86.S" -o "obj/calls.obj"
    calls=obj/calls.obj
  fi
  image ntdll ntdll.dll ntdll.pdb "Microsoft Corporation" "NT Layer DLL" $calls /dll /subsystem:console \
    /entry:$(entry DllMain 12) /implib:"obj/ntdll.lib"
  image faultapp faultapp.exe faultapp.pdb "Example Devices" "Sensor viewer" /subsystem:console \
    /entry:$(entry WinMainCRTStartup 4) "obj/ntdll.lib"
  rm -rf obj
done
