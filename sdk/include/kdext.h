/* kdext.h: the tables between the kd kernel crash-dump debugger and an extension, for C11 and C++11.
 *
 * The same thing as sdk/src/abi/mod.rs, where every item is described at length; a test compares the two. An extension is a
 * dynamic library called kdext_NAME (libkdext_NAME.so, kdext_NAME.dll, libkdext_NAME.dylib) that exports
 *
 *     const kd_extension *kdext_entry(void);
 *
 * Rules
 *   - Pointers given to a function are valid for that call; what must last is copied. Texts of kd_module_info and
 *     kd_unloaded_info are valid until the command returns. Type handles are valid until the command returns.
 *   - Texts are UTF-8 with a length and no NUL at the end; {NULL, 0} is the empty text.
 *   - Call the host only from the thread that run() or notify() was called on, and only before it returns.
 *   - Nothing unwinds across the border: no C++ exception and no longjmp leaves a function of yours.
 *   - Join your threads before run() returns: the library may be unmapped right after.
 *   - Read *host->interrupt often; once it is not 0, return KD_STATUS_INTERRUPTED soon.
 *   - Blocks (v1, ...) never change once released; a later minor version appends blocks. While KD_ABI_MAJOR is 0
 *     every minor version may differ: build against the header of the kd that loads the extension.
 */
#ifndef KDEXT_H
#define KDEXT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define KDEXT_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define KDEXT_EXPORT __attribute__((visibility("default")))
#else
#define KDEXT_EXPORT
#endif

/* "KDEXT" and three zero bytes, as a little-endian number. */
#define KD_MAGIC UINT64_C(0x000000545845444b)
#define KD_ABI_MAJOR 0
#define KD_ABI_MINOR 2

/* What callbacks and commands return. */
#define KD_STATUS_OK 0
#define KD_STATUS_UNREADABLE (-1)   /* memory; a kd_read_fault says where and why */
#define KD_STATUS_NOT_FOUND (-2)    /* no such name, index or item */
#define KD_STATUS_PANICKED (-3)     /* the code failed unexpectedly */
#define KD_STATUS_INTERRUPTED (-4)  /* Ctrl+C */
#define KD_STATUS_UNSUPPORTED (-5)  /* the host, the dump or the machine does not have this */
#define KD_STATUS_FAILED (-6)       /* the command failed and said why in the output */
#define KD_STATUS_INVALID (-7)      /* a wrong argument, or a call from a wrong thread */
#define KD_STATUS_STALE (-8)        /* a handle of another command */
#define KD_STATUS_NO_SYMBOLS (-9)   /* symbols or types that are not loaded */
#define KD_STATUS_CONTINUE_SEARCH 1 /* not mine: let the next extension with this command answer */

/* kd_read_fault.why */
#define KD_ABSENT_NOT_CAPTURED 1 /* the dump does not hold the page */
#define KD_ABSENT_PAGED_OUT 2    /* it was in a page file */
#define KD_ABSENT_NOT_MAPPED 3   /* no page at the address */
#define KD_ABSENT_BROKEN 4       /* the dump file is cut or damaged there */

/* kd_command_info.needs: checked before the command runs. */
#define KD_NEEDS_TARGET 1       /* a dump is open */
#define KD_NEEDS_KERNEL_TYPES 2 /* the kernel's PDB with types */
#define KD_NEEDS_PHYSICAL 4     /* physical memory: not a small dump */

/* Ids for kd_host.v1.query */
#define KD_SERVICE_MEMORY 1      /* kd_memory_service */
#define KD_SERVICE_TARGET 2      /* kd_target_service */
#define KD_SERVICE_SYMBOLS 3     /* kd_symbol_service */
#define KD_SERVICE_TYPES 4       /* kd_type_service */
#define KD_SERVICE_EXPRESSIONS 5 /* kd_expression_service */
#define KD_SERVICE_OUTPUT 6      /* kd_output_service */
#define KD_SERVICE_CONTROL 7     /* kd_control_service */
#define KD_SERVICE_STACKS 8      /* kd_stack_service */
#define KD_SERVICE_CODE 9        /* kd_code_service */

/* Events for notify(); the argument is the target's number. */
#define KD_EVENT_TARGET_CHANGED 1
#define KD_EVENT_TARGET_CLOSED 2
#define KD_EVENT_SYMBOLS_CHANGED 3

/* A borrowed text or table. */
typedef struct kd_str {
    const char *ptr;
    size_t len;
} kd_str;

/* Takes text from the host, in any number of pieces. */
typedef struct kd_text_sink {
    void *ctx; /* first argument of write */
    void (*write)(void *ctx, kd_str text);
} kd_text_sink;

/* ---------------------------------------------------------------------------------------------------------------
 * What a host gives an extension, during one call
 * ------------------------------------------------------------------------------------------------------------- */

typedef struct kd_host_v1 {
    /* A service table of at least min_size bytes, or NULL. */
    const void *(*query)(void *ctx, uint32_t id, uint32_t min_size);
    /* The text of the last failure in this call. */
    void (*last_error)(void *ctx, kd_text_sink text);
} kd_host_v1;

typedef struct kd_host {
    uint32_t size;
    uint16_t major;
    uint16_t minor;
    void *ctx;                 /* first argument of every callback */
    const uint32_t *interrupt; /* not 0 after Ctrl+C; read it as volatile or with a relaxed atomic load */
    kd_host_v1 v1;
} kd_host;

typedef struct kd_read_fault {
    uint64_t done; /* bytes read before the fault */
    uint64_t at;   /* first address that could not be read */
    uint32_t why;  /* KD_ABSENT_* */
    uint32_t reserved;
} kd_read_fault;

/* Takes runs of frames: the first frame's number and how many. A nonzero answer of visit ends the enumeration. */
typedef struct kd_run_sink {
    void *ctx;
    int32_t (*visit)(void *ctx, uint64_t first, uint64_t pages);
} kd_run_sink;

/* space: a directory table base (a physical address), or 0 for the current address space. */
typedef struct kd_memory_v1 {
    int32_t (*read_virtual)(void *ctx, uint64_t space, uint64_t va, uint8_t *buffer, uint64_t len,
                            kd_read_fault *fault);
    int32_t (*read_physical)(void *ctx, uint64_t pa, uint8_t *buffer, uint64_t len, kd_read_fault *fault);
    int32_t (*translate)(void *ctx, uint64_t space, uint64_t va, uint64_t *pa, kd_read_fault *fault);
    int32_t (*next_readable)(void *ctx, uint64_t space, uint64_t va, uint64_t *found);
    int32_t (*physical_runs)(void *ctx, kd_run_sink sink); /* what the dump holds, in ascending order */
    int32_t (*space_of_process)(void *ctx, uint64_t process, uint64_t *space); /* by its EPROCESS */
} kd_memory_v1;

typedef struct kd_memory_service {
    uint32_t size;
    uint32_t reserved;
    kd_memory_v1 v1;
} kd_memory_service;

/* Set size to sizeof(kd_target_info) before the call. What the dump does not say is 0. */
typedef struct kd_target_info {
    uint32_t size;
    uint32_t machine;      /* PE machine: 0x14c, 0x8664, 0xaa64 */
    uint32_t pointer_size; /* 4 or 8 */
    uint32_t dump_kind;    /* as in the header: 1 full ... 4 small ... 0xA */
    uint32_t target;       /* number, as in || */
    uint32_t processors;
    uint32_t current_processor;
    uint32_t build;
    uint32_t major_version; /* 0xf free, 0xc checked */
    uint32_t present;       /* bits: 1 bug check, 2 time, 4 up time, 8 product, 0x10 physical, 0x20 virtual memory */
    uint32_t bug_check;     /* as stored, with 0x10000000 in small dumps */
    uint32_t product_type;  /* 1 workstation, 2 domain controller, 3 server */
    uint64_t parameters[4];
    uint64_t system_time; /* FILETIME */
    uint64_t up_time;     /* 100 ns */
    uint64_t kernel_base;
    uint64_t ps_loaded_module_list;
    uint64_t ps_active_process_head;
    uint64_t kd_debugger_data;
    uint64_t pfn_database;
    uint64_t directory_table_base;
    uint64_t current_process;
    uint64_t current_thread;
    uint64_t prcb;
} kd_target_info;

typedef struct kd_module_info {
    uint64_t base;
    uint64_t size;
    uint32_t time_stamp;
    uint32_t check_sum;
    uint32_t flags; /* bits: 1 the kernel, 2 user mode */
    uint32_t reserved;
    kd_str name;  /* "nt" */
    kd_str image; /* "ntoskrnl.exe" */
    kd_str path;
    uint64_t loader_entry; /* KLDR_DATA_TABLE_ENTRY, or 0 */
} kd_module_info;

typedef struct kd_unloaded_info {
    uint64_t start;
    uint64_t end;         /* one past the last byte */
    uint64_t unload_time; /* FILETIME, or 0 */
    kd_str name;          /* cut at 12 characters by Windows */
} kd_unloaded_info;

typedef struct kd_exception_info {
    uint32_t code;
    uint32_t flags;
    uint64_t address;
    uint32_t parameter_count;
    uint32_t reserved;
    uint64_t parameters[15];
} kd_exception_info;

typedef struct kd_processor_info {
    uint32_t number;
    uint32_t flags; /* bits: 1 its registers are in the dump */
    uint64_t prcb;
    uint64_t current_thread;
    uint64_t current_process;
} kd_processor_info;

typedef struct kd_tagged_info {
    uint8_t tag[16]; /* GUID in memory order */
    uint64_t size;
} kd_tagged_info;

/* Register sets */
#define KD_REGISTERS_CURRENT 0   /* what r shows: after .cxr and the like, what they chose */
#define KD_REGISTERS_HEADER 1    /* the context in the dump header */
#define KD_REGISTERS_PROCESSOR 2 /* what the current processor's KPRCB saved */

/* Texts about the target */
#define KD_TEXT_FILE 1
#define KD_TEXT_KIND 2
#define KD_TEXT_VERSION 3
#define KD_TEXT_BUILD_LAB 4
#define KD_TEXT_COMMENT 5
#define KD_TEXT_MACHINE 6 /* x64, x86, arm64 */
#define KD_TEXT_BLAMED_DRIVER 7 /* the driver that Windows itself blamed in a small dump */

typedef struct kd_target_v1 {
    int32_t (*info)(void *ctx, kd_target_info *info);
    int32_t (*text)(void *ctx, uint32_t id, kd_text_sink text);
    int32_t (*module)(void *ctx, uint64_t index, kd_module_info *module_);
    int32_t (*module_at)(void *ctx, uint64_t va, uint64_t *index);
    int32_t (*unloaded)(void *ctx, uint64_t index, kd_unloaded_info *module_);
    int32_t (*register_)(void *ctx, uint32_t set, kd_str name, uint64_t *value); /* "register" is a C keyword */
    int32_t (*exception)(void *ctx, kd_exception_info *exception);
    int32_t (*processor)(void *ctx, uint32_t number, kd_processor_info *processor);
    int32_t (*kd_data)(void *ctx, uint32_t offset, uint32_t size, uint64_t *value); /* KDDEBUGGER_DATA64, decoded */
    int32_t (*tagged)(void *ctx, uint64_t index, kd_tagged_info *tagged);
    int32_t (*read_tagged)(void *ctx, uint64_t index, uint64_t offset, uint8_t *buffer, uint64_t len,
                           uint64_t *done);
} kd_target_v1;

typedef struct kd_target_service {
    uint32_t size;
    uint32_t reserved;
    kd_target_v1 v1;
} kd_target_service;

/* name may be empty (no symbol), and module too (no module). */
typedef struct kd_symbol_info {
    kd_str module;
    kd_str name;
    uint64_t displacement; /* from the symbol, or from the module where there is no symbol */
    uint64_t address;
} kd_symbol_info;

/* A nonzero answer of visit ends the enumeration. */
typedef struct kd_symbol_sink {
    void *ctx;
    int32_t (*visit)(void *ctx, const kd_symbol_info *symbol);
} kd_symbol_sink;

typedef struct kd_symbol_v1 {
    int32_t (*at)(void *ctx, uint64_t va, kd_symbol_sink sink);        /* visits once */
    int32_t (*by_name)(void *ctx, kd_str name, uint64_t *va);          /* "nt!KeBugCheckEx", "nt" */
    int32_t (*each)(void *ctx, kd_str pattern, kd_symbol_sink sink);   /* "nt!Ke*" */
} kd_symbol_v1;

typedef struct kd_symbol_service {
    uint32_t size;
    uint32_t reserved;
    kd_symbol_v1 v1;
} kd_symbol_service;

typedef struct kd_type_ref {
    uint64_t id; /* handle; 0 is none */
    uint64_t size;
} kd_type_ref;

/* kd_field_info.kind */
#define KD_KIND_OTHER 0
#define KD_KIND_UINT 1
#define KD_KIND_INT 2
#define KD_KIND_POINTER 3
#define KD_KIND_STRUCT 4
#define KD_KIND_ARRAY 5
#define KD_KIND_ENUM 6
#define KD_KIND_BITS 7
#define KD_KIND_FLOAT 8

typedef struct kd_field_info {
    uint64_t offset;
    uint64_t size;
    uint32_t kind;
    uint32_t bit_position;
    uint32_t bit_length; /* 0: no bit field */
    uint32_t count;      /* elements of an array, else 0 */
    kd_type_ref element; /* the field's type; of an array or a pointer, the element's */
} kd_field_info;

typedef struct kd_field_sink {
    void *ctx;
    int32_t (*visit)(void *ctx, kd_str name, const kd_field_info *field);
} kd_field_sink;

typedef struct kd_type_v1 {
    int32_t (*lookup)(void *ctx, kd_str name, kd_type_ref *found); /* "nt!_EPROCESS" */
    int32_t (*field)(void *ctx, uint64_t id, kd_str path, kd_field_info *field);
    int32_t (*fields)(void *ctx, uint64_t id, kd_field_sink sink);
    int32_t (*name)(void *ctx, uint64_t id, kd_text_sink text);
    int32_t (*enum_name)(void *ctx, uint64_t id, int64_t value, kd_text_sink text);
} kd_type_v1;

typedef struct kd_type_service {
    uint32_t size;
    uint32_t reserved;
    kd_type_v1 v1;
} kd_type_service;

/* A value of a C++ expression. */
typedef struct kd_typed_info {
    uint64_t value;   /* of a structure or an array its address */
    uint64_t address; /* 0: in a register or nowhere */
    kd_type_ref of;   /* of an array or a pointer the element's; id 0: a type of C, in no module */
    uint64_t size;
    uint32_t kind; /* KD_KIND_* */
    uint32_t reserved;
} kd_typed_info;

typedef struct kd_expression_v1 {
    int32_t (*evaluate)(void *ctx, kd_str text, uint64_t *value);
    int32_t (*typed)(void *ctx, kd_str text, kd_typed_info *value);
} kd_expression_v1;

typedef struct kd_expression_service {
    uint32_t size;
    uint32_t reserved;
    kd_expression_v1 v1;
} kd_expression_service;

/* kd_field_value.tag, and what a value is in JSON */
#define KD_VALUE_NULL 0
#define KD_VALUE_BOOL 1
#define KD_VALUE_UINT 2     /* number */
#define KD_VALUE_INT 3      /* number */
#define KD_VALUE_HEX 4      /* "0x7e" */
#define KD_VALUE_TIME 5     /* FILETIME: "2021-02-21T01:38:22.987Z" */
#define KD_VALUE_DURATION 6 /* 100 ns units: seconds */
#define KD_VALUE_TEXT 7

typedef struct kd_field_value {
    uint32_t tag;
    uint32_t reserved;
    uint64_t number;
    kd_str text; /* for KD_VALUE_TEXT */
} kd_field_value;

#define KD_SHAPE_RECORD 1
#define KD_SHAPE_LIST 2

#define KD_SEVERITY_VERBOSE 0
#define KD_SEVERITY_WARNING 1
#define KD_SEVERITY_ERROR 2

/* Styles are hints: 0 normal, 1 heading, 2 address, 3 symbol, 4 bad, 5 emphasis, 6 dim. */
typedef struct kd_output_v1 {
    void (*begin)(void *ctx, uint32_t shape, kd_str key);
    void (*end)(void *ctx);
    void (*text)(void *ctx, uint32_t style, kd_str text); /* for people; "\n" ends a line */
    /* value under key for programs, shown (may be empty) for people */
    void (*field)(void *ctx, kd_str key, const kd_field_value *value, uint32_t style, kd_str shown);
    void (*link)(void *ctx, kd_str text, kd_str command);
    void (*message)(void *ctx, uint32_t severity, kd_str text);
} kd_output_v1;

typedef struct kd_output_service {
    uint32_t size;
    uint32_t reserved;
    kd_output_v1 v1;
} kd_output_service;

typedef struct kd_control_v1 {
    void (*progress)(void *ctx, uint64_t done, uint64_t total, kd_str label); /* total 0: unknown */
    int32_t (*execute)(void *ctx, kd_str line, kd_text_sink output);
} kd_control_v1;

typedef struct kd_control_service {
    uint32_t size;
    uint32_t reserved;
    kd_control_v1 v1;
} kd_control_service;

/* Kinds of kd_context_ref */
#define KD_CONTEXT_CURRENT 0   /* what r and k show */
#define KD_CONTEXT_PROCESSOR 1 /* at: its number */
#define KD_CONTEXT_HEADER 2    /* the context in the dump header */
#define KD_CONTEXT_RECORD 3    /* at: address of a CONTEXT */
#define KD_CONTEXT_TRAP 4      /* at: address of a KTRAP_FRAME */
#define KD_CONTEXT_THREAD 5    /* at: address of an ETHREAD */
#define KD_CONTEXT_VALUES 6    /* just ip, sp, fp */

/* Registers that stand somewhere in the target. */
typedef struct kd_context_ref {
    uint32_t kind;
    uint32_t reserved;
    uint64_t at;
    uint64_t space; /* as for kd_memory_v1 */
    uint64_t ip;    /* ip, sp and fp: for KD_CONTEXT_VALUES */
    uint64_t sp;
    uint64_t fp;
} kd_context_ref;

/* kd_frame_info.source: how a frame was found */
#define KD_FRAME_SOURCE_CONTEXT 0           /* its registers are those that the walk began with */
#define KD_FRAME_SOURCE_UNWIND 1            /* unwind data */
#define KD_FRAME_SOURCE_UNWIND_IMAGE_FILE 2 /* unwind data, some from an image file */
#define KD_FRAME_SOURCE_FRAME_DATA 3        /* frame data of the symbols (x86) */
#define KD_FRAME_SOURCE_FRAME_POINTER 4     /* the chain of frame pointers */
#define KD_FRAME_SOURCE_LEAF 5              /* the function it called has no frame of its own */
#define KD_FRAME_SOURCE_TRAP 6              /* a trap frame or a machine frame */
#define KD_FRAME_SOURCE_SCAN 7              /* a return address found on the stack; it may be stale */

/* Bits of kd_frame_info.flags */
#define KD_FRAME_FLAG_EXACT 1  /* ip is the instruction that ran, not the one after a call */
#define KD_FRAME_FLAG_INLINE 2 /* a function that the compiler put into its caller */

typedef struct kd_frame_info {
    uint64_t ip;
    uint64_t sp;             /* Child-SP */
    uint64_t fp;             /* on x86 ChildEBP */
    uint64_t return_address; /* 0: the last, or not known */
    uint64_t trap_frame;     /* 0: none */
    uint64_t arguments[4];   /* the words at the places of the first arguments */
    uint32_t arguments_read; /* bits: which of them could be read */
    uint32_t source;         /* KD_FRAME_SOURCE_* */
    uint32_t flags;          /* KD_FRAME_FLAG_* */
    uint32_t reserved;
    kd_str site;    /* "nt!KeBugCheckEx+0x107" */
    kd_str missing; /* why its caller was not found from unwind data; empty where it was */
} kd_frame_info;

/* A nonzero answer of visit ends the enumeration. */
typedef struct kd_frame_sink {
    void *ctx;
    int32_t (*visit)(void *ctx, const kd_frame_info *frame);
} kd_frame_sink;

/* Bits for kd_stack_v1.show: the letters of k */
#define KD_LOOK_ARGUMENTS 1
#define KD_LOOK_VERBOSE 2
#define KD_LOOK_NAMES_ONLY 4
#define KD_LOOK_NUMBERS 8
#define KD_LOOK_DISTANCES 16

/* What the user looks at stays what it is. */
typedef struct kd_stack_v1 {
    int32_t (*walk)(void *ctx, const kd_context_ref *from, uint32_t most, kd_frame_sink sink);
    /* as k shows it, in the command's own output, each line after indent blanks */
    int32_t (*show)(void *ctx, const kd_context_ref *from, uint32_t most, uint32_t look, uint32_t indent);
    int32_t (*register_)(void *ctx, const kd_context_ref *from, kd_str name, uint64_t *value);
} kd_stack_v1;

typedef struct kd_stack_service {
    uint32_t size;
    uint32_t reserved;
    kd_stack_v1 v1;
} kd_stack_service;

/* kd_instruction_info.flow: how an instruction passes control on */
#define KD_FLOW_NEXT 0
#define KD_FLOW_JUMP 1   /* to "to"; 0: in a register or in memory */
#define KD_FLOW_BRANCH 2 /* to "to" or to the next */
#define KD_FLOW_CALL 3   /* to "to" and back; 0: in a register or in memory */
#define KD_FLOW_RETURN 4
#define KD_FLOW_STOP 5 /* no valid instruction */

typedef struct kd_instruction_info {
    uint64_t address;
    uint32_t length;
    uint32_t flow; /* KD_FLOW_* */
    uint64_t to;
    uint32_t flags; /* bits: 1 some bytes came from an image file */
    uint32_t reserved;
    kd_str text; /* "mov     qword ptr [rsp+8],rcx" */
    kd_str line; /* as u shows it */
} kd_instruction_info;

/* A nonzero answer of visit ends the enumeration. */
typedef struct kd_instruction_sink {
    void *ctx;
    int32_t (*visit)(void *ctx, const kd_instruction_info *instruction);
} kd_instruction_sink;

typedef struct kd_code_v1 {
    int32_t (*forward)(void *ctx, uint64_t space, uint64_t va, uint32_t most, kd_instruction_sink sink,
                       kd_read_fault *fault);
    /* those that lead to va, in order */
    int32_t (*backward)(void *ctx, uint64_t space, uint64_t va, uint32_t most, kd_instruction_sink sink,
                        kd_read_fault *fault);
} kd_code_v1;

typedef struct kd_code_service {
    uint32_t size;
    uint32_t reserved;
    kd_code_v1 v1;
} kd_code_service;

/* ---------------------------------------------------------------------------------------------------------------
 * What an extension gives the host
 * ------------------------------------------------------------------------------------------------------------- */

typedef struct kd_str_slice {
    const kd_str *ptr;
    size_t len;
} kd_str_slice;

typedef struct kd_command_info {
    kd_str name; /* lower case, without ! */
    kd_str_slice aliases;
    kd_str summary;
    kd_str usage;
    kd_str help;
    uint32_t needs; /* KD_NEEDS_* */
    uint32_t reserved;
} kd_command_info;

typedef struct kd_command_slice {
    const kd_command_info *ptr;
    size_t len;
} kd_command_slice;

typedef struct kd_extension_v1 {
    kd_str name; /* as in !NAME.command */
    kd_str version;
    kd_str built_by;
    kd_str summary;
    kd_command_slice commands;
    int32_t (*run)(const kd_host *host, uint32_t index, kd_str args);             /* on a thread of its own */
    int32_t (*notify)(const kd_host *host, uint32_t event, uint64_t argument);    /* KD_EVENT_*; may be NULL */
    int32_t (*unload)(void);                                                      /* the last call; may be NULL */
    const void *abi_header; /* NULL in C */
    const void *layouts;    /* NULL in C */
    uint64_t layout_count;  /* 0 in C */
} kd_extension_v1;

/* Lives until unload() has returned. */
typedef struct kd_extension {
    uint64_t magic; /* KD_MAGIC */
    uint32_t size;  /* sizeof(kd_extension) */
    uint16_t abi_major;
    uint16_t abi_minor;
    uint16_t min_host_minor; /* oldest host minor version it can work with */
    uint16_t reserved[3];
    kd_extension_v1 v1;
} kd_extension;

KDEXT_EXPORT const kd_extension *kdext_entry(void);

/* A text from a literal: KD_STR("nt") in expressions, KD_STR_INIT("nt") in initialisers. */
#define KD_STR_INIT(literal) { (literal), sizeof(literal) - 1 }
#ifdef __cplusplus
#define KD_STR(literal) (kd_str KD_STR_INIT(literal))
#else
#define KD_STR(literal) ((kd_str)KD_STR_INIT(literal))
#endif

#ifdef __cplusplus
}
#endif

#endif
