/* An extension in C: `!chello` prints the machine, the bug check and 16 bytes at the stack pointer.
 *
 *     cc -std=c11 -shared -fPIC -I sdk/include -o libkdext_chello.so sdk/examples/hello.c
 *     kd -z MEMORY.DMP -c ".load ./libkdext_chello.so; !chello; q"
 */
#include "kdext.h"

#include <stdio.h>
#include <string.h>

struct out {
    const kd_host *host;
    const kd_output_v1 *v1;
};

static kd_str str(const char *text) {
    kd_str s = {text, strlen(text)};
    return s;
}

static void say(const struct out *out, const char *text) {
    out->v1->text(out->host->ctx, 0, str(text));
}

/* One value: `number` for programs, `shown` for people. */
static void hex(const struct out *out, const char *key, uint64_t number, const char *shown) {
    kd_field_value value = {KD_VALUE_HEX, 0, 0, {NULL, 0}};
    value.number = number;
    out->v1->field(out->host->ctx, str(key), &value, 0, str(shown));
}

static void keep(void *ctx, kd_str text) {
    char *buffer = ctx;
    size_t len = text.len < 63 ? text.len : 63;
    memcpy(buffer, text.ptr, len);
    buffer[len] = 0;
}

static int32_t chello(const kd_host *host) {
    const kd_output_service *output = host->v1.query(host->ctx, KD_SERVICE_OUTPUT, sizeof *output);
    const kd_target_service *target = host->v1.query(host->ctx, KD_SERVICE_TARGET, sizeof *target);
    const kd_memory_service *memory = host->v1.query(host->ctx, KD_SERVICE_MEMORY, sizeof *memory);
    if (!output || !target || !memory)
        return KD_STATUS_UNSUPPORTED;
    struct out out = {host, &output->v1};

    kd_target_info info = {.size = sizeof info};
    int32_t status = target->v1.info(host->ctx, &info);
    if (status != KD_STATUS_OK)
        return status;

    char machine[64] = "?", line[128];
    kd_text_sink sink = {machine, keep};
    target->v1.text(host->ctx, KD_TEXT_MACHINE, sink);
    kd_field_value name = {KD_VALUE_TEXT, 0, 0, {machine, strlen(machine)}};
    say(&out, "Machine:   ");
    out.v1->field(host->ctx, KD_STR("machine"), &name, 0, str(machine));
    say(&out, "\n");

    if (info.present & 1) {
        snprintf(line, sizeof line, "%X", info.bug_check & 0x0fffffff);
        say(&out, "Bug check: ");
        hex(&out, "bug_check", info.bug_check & 0x0fffffff, line);
        say(&out, "\n");
    }

    uint64_t sp = 0;
    const char *stack = info.machine == 0x14c ? "esp" : info.machine == 0xaa64 ? "sp" : "rsp";
    if (target->v1.register_(host->ctx, KD_REGISTERS_CURRENT, str(stack), &sp) != KD_STATUS_OK) {
        out.v1->message(host->ctx, KD_SEVERITY_ERROR, KD_STR("the dump has no registers"));
        return KD_STATUS_FAILED;
    }
    uint8_t bytes[16];
    kd_read_fault fault = {0};
    status = memory->v1.read_virtual(host->ctx, 0, sp, bytes, sizeof bytes, &fault);
    uint64_t done = status == KD_STATUS_OK ? sizeof bytes : fault.done;
    snprintf(line, sizeof line, "%016llx", (unsigned long long)sp);
    say(&out, "Stack:     ");
    hex(&out, "sp", sp, line);
    for (uint64_t i = 0; i < sizeof bytes; i++) {
        snprintf(line, sizeof line, i < done ? " %02x" : " ??", bytes[i]);
        say(&out, line);
    }
    say(&out, "\n");
    return status;
}

static int32_t run(const kd_host *host, uint32_t index, kd_str args) {
    (void)args;
    if (host->major != KD_ABI_MAJOR)
        return KD_STATUS_UNSUPPORTED;
    return index == 0 ? chello(host) : KD_STATUS_INVALID;
}

static const kd_command_info commands[] = {
    {
        .name = KD_STR_INIT("chello"),
        .summary = KD_STR_INIT("Show the machine, the bug check and the top of the stack"),
        .needs = KD_NEEDS_TARGET,
    },
};

static const kd_extension extension = {
    .magic = KD_MAGIC,
    .size = sizeof(kd_extension),
    .abi_major = KD_ABI_MAJOR,
    .abi_minor = KD_ABI_MINOR,
    .min_host_minor = KD_ABI_MINOR,
    .v1 = {
        .name = KD_STR_INIT("chello"),
        .version = KD_STR_INIT("1.0"),
        .built_by = KD_STR_INIT("a C compiler"),
        .summary = KD_STR_INIT("An example in C"),
        .commands = {commands, sizeof commands / sizeof *commands},
        .run = run,
    },
};

const kd_extension *kdext_entry(void) {
    return &extension;
}
