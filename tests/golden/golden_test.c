/* Frames that every version of protocol 1 reads and writes alike.
 *
 * Each tests/golden/NAME.bin holds the frames of one message (for each a u32 length, little-endian, and the bytes). The
 * message it stands for is written out by hand below; a file must decode to it, and it must encode to the file, byte
 * for byte. `golden_test --write` writes the files that are missing and never changes one. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/wire_frames.h"

enum { FILE_BYTES_MAX = 1 << 16 };

static const struct wire_pair spec[] = {
    {"name", "digits"}, {"model", "cnn"}, {"updater.kind", "adam"}, {"updater.beta1", "0.9"}, {"note", "naïve ✓"}};
static const struct wire_cover covers[] = {
    {.session = 0x1122334455667788,
     .incarnation = 2,
     .seq = 301,
     .lease = 17,
     .fence = 3,
     .epoch = 1,
     .first = 4096,
     .end = 4160,
     .samples = 64},
    {.session = 9, .incarnation = 1, .seq = 302, .samples = 1},
};
static const struct wire_unit units[] = {{0, 2, 0}, {3, 1, 0x0001000000000029}, {70000, 3, UINT64_MAX}};
static const float values[] = {1.0F, -0.5F, 0.25F, 3.0F, 1.5e-3F, -65504.0F};
static const struct wire_bytes payload[] = {{values, 12}, {values + 3, 12}};
/* 1.0, -2.0 and 0.5, 1.0, 1.5, 2.0 as bfloat16 */
static const uint16_t halves[] = {0x3F80, 0xC000, 0x3F00, 0x3F80, 0x3FC0, 0x4000};
static const struct wire_bytes half_payload = {halves, 12};
static const struct tensor_spec tensors[] = {
    {.name = "conv.weight", .rank = 4, .shape = {8, 1, 5, 5}, .lr_factor = 1.0F},
    {.name = "dense.weight", .rank = 2, .shape = {300, 500}, .lr_factor = 0.5F},
    {.name = "dense.bias", .rank = 1, .shape = {300}, .lr_factor = 2.0F, .no_weight_decay = true},
    {.name = "mean", .rank = 0, .lr_factor = 1.0F, .update = TENSOR_UPDATE_AVERAGE, .frozen = true},
};
static const uint16_t placement[] = {0, 1, 0, 1, 0, 1};
static const uint64_t positions[] = {4100, 4128, 1ULL << 40};
static const uint32_t shard_numbers[] = {4, 5};
static const struct wire_shard_address addresses[] = {{4, "tcp://10.0.0.1:7720"}, {5, "tcp://[::1]:7721"}};
static const char *const endpoints[] = {"tcp://127.0.0.1:7720", "tcp://127.0.0.1:7721"};
static const char *const devices[] = {"cpu", "cuda:0"};
static const char *const lines[] = {"step 100 loss 0.25", "", "fin ✓"};
static const struct wire_ledger_row rows[] = {{0, 60000, 60000, 128}, {1, 59872, 60000, 0}};
static const struct wire_shard_job_stats stats[] = {
    {.job = 7,
     .shard = 4,
     .pushes = 1000,
     .samples = 64000,
     .dropped = 3,
     .duplicates = 2,
     .staleness_mean = 2.5,
     .staleness_p99 = 9,
     .staleness_max = 14,
     .weight_mean = 0.75,
     .push_bytes = 1ULL << 33,
     .pull_bytes = 1ULL << 34,
     .parameter_bytes = 1 << 20,
     .state_bytes = 2 << 20,
     .initialised = true},
    {.job = 8, .shard = 4},
};
static const struct wire_shard_job_stats versioned_stats[] = {
    {.job = 7, .shard = 4, .pushes = 1000, .pulls = 1010, .version = 0x0001000000000029}};
static const struct wire_device_stats device_numbers[] = {
    {.device = "cuda:0",
     .name = "NVIDIA H100 80GB HBM3",
     .memory_bytes = 80ULL << 30,
     .memory_used_bytes = 3ULL << 30,
     .utilisation_known = true,
     .utilisation_percent = 97,
     .temperature_c = 61,
     .power_mw = 512000},
    {.device = "cpu", .memory_bytes = 32ULL << 30, .memory_used_bytes = 1ULL << 30},
};

#define VALUES .units = units, .unit_count = 3, .payload = payload, .payload_count = 2
#define TENSORS .tensors = tensors, .tensor_count = 4
#define PLACEMENT .placement = placement, .placement_count = 6
#define SPEC .spec = spec, .spec_count = 5

static const struct wire_range ranges[] = {{4096, 1048576}, {0, 24}};

static const struct golden {
    const char *name;
    struct wire_message message;
} goldens[] = {
    {"hello",
     {.kind = WIRE_HELLO,
      .request = 1,
      .hello = {.session = 0x1122334455667788,
                .incarnation = 2,
                .token = 0xFEDCBA9876543210,
                .job = 7,
                .window = 16,
                .seq_floor = 300}}},
    {"hello_reply",
     {.kind = WIRE_HELLO_REPLY,
      .request = 1,
      .hello_reply = {.shard = 4, .window = 8, .credit_bytes = 8 << 20, .version = 0x0001000000000029}}},
    {"hello_reply_local",
     {.kind = WIRE_HELLO_REPLY,
      .request = 2,
      .hello_reply = {.shard = 1, .window = 64, .credit_bytes = 8 << 20, .local = "lagoon-shard-0123456789abcdef"}}},
    {"push_ring",
     {.kind = WIRE_PUSH,
      .request = 14,
      .push = {.session = 9,
               .incarnation = 1,
               .seq = 304,
               .job = 7,
               .map_version = 2,
               .clock = 57,
               .part_count = 1,
               .samples = 65,
               .local_steps = 1,
               .ring = true,
               .covers = covers,
               .cover_count = 1},
      .units = units,
      .unit_count = 3,
      .ranges = ranges,
      .range_count = 2}},
    {"push",
     {.kind = WIRE_PUSH,
      .push = {.session = 0x1122334455667788,
               .incarnation = 2,
               .seq = 301,
               .seq_floor = 299,
               .job = 7,
               .map_version = 1,
               .clock = 55,
               .part = 1,
               .part_count = 3,
               .kind = WIRE_PUSH_KIND_GRADIENT,
               .sign = WIRE_SIGN_DESCEND,
               .dtype = WIRE_DTYPE_F32,
               .samples = 64,
               .local_steps = 1,
               .base = 0x0001000000000027,
               .covers = covers,
               .cover_count = 1},
      VALUES}},
    {"push_delta_bf16",
     {.kind = WIRE_PUSH,
      .request = 12,
      .push = {.session = 9,
               .incarnation = 1,
               .seq = 303,
               .job = 7,
               .map_version = 2,
               .clock = 56,
               .part_count = 1,
               .kind = WIRE_PUSH_KIND_DELTA,
               .sign = WIRE_SIGN_ADD,
               .dtype = WIRE_DTYPE_BF16,
               .samples = 65,
               .local_steps = 20,
               .round = 6,
               .ticket = 2,
               .pull = true,
               .covers = covers,
               .cover_count = 2},
      .units = units,
      .unit_count = 3,
      .payload = &half_payload,
      .payload_count = 1}},
    {"push_reply",
     {.kind = WIRE_PUSH_REPLY,
      .push_reply = {.seq = 301,
                     .staleness = 2,
                     .weight = 0.70710678F,
                     .version = 0x000100000000002A,
                     .units_applied = 2,
                     .units_repeated = 1}}},
    {"push_reply_cuts",
     {.kind = WIRE_PUSH_REPLY,
      .push_reply =
          {.seq = 301, .weight = 1.0F, .version = 41, .units_applied = 1, .cuts = positions, .cut_count = 2}}},
    {"push_reply_values", {.kind = WIRE_PUSH_REPLY, .push_reply = {.seq = 303, .weight = 1.0F, .version = 5}, VALUES}},
    {"push_reply_pulled",
     {.kind = WIRE_PUSH_REPLY,
      .push_reply = {.seq = 304,
                     .staleness = 1,
                     .weight = 0.5F,
                     .version = 0x000100000000002A,
                     .units_applied = 3,
                     .values_version = 0x000100000000002B},
      VALUES}},
    {"pull",
     {.kind = WIRE_PULL,
      .pull = {.session = 9, .incarnation = 1, .job = 7, .map_version = 2, .clock = 56, .tag = 77},
      .units = units,
      .unit_count = 3}},
    {"push_skipped",
     {.kind = WIRE_PUSH,
      .request = 15,
      .push = {.session = 9,
               .incarnation = 1,
               .seq = 305,
               .job = 7,
               .map_version = 2,
               .clock = 58,
               .part_count = 1,
               .kind = WIRE_PUSH_KIND_SKIPPED,
               .samples = 65,
               .local_steps = 1,
               .round = 12,
               .covers = covers,
               .cover_count = 1},
      .units = units,
      .unit_count = 3}},
    {"gate",
     {.kind = WIRE_GATE,
      .request = 79,
      .gate = {.session = 9,
               .incarnation = 1,
               .job = 7,
               .map_version = 2,
               .tag = 79,
               .kind = WIRE_GATE_KIND_TICKET,
               .round = 12}}},
    {"gate_read",
     {.kind = WIRE_GATE, .request = 80, .gate = {.session = 9, .incarnation = 1, .job = 7, .tag = 80, .round = 13}}},
    {"gate_reply", {.kind = WIRE_GATE_REPLY, .request = 79, .gate_reply = {.tag = 79, .status = 16, .round = 13}}},
    {"trainer_beat_parked",
     {.kind = WIRE_TRAINER_BEAT,
      .request = 81,
      .trainer_beat = {.session = 9, .incarnation = 1, .steps = 120, .state = "pulling", .parked = true}}},
    {"pull_reply",
     {.kind = WIRE_PULL_REPLY,
      .pull_reply = {.tag = 77, .version = 0x000100000000002A, .dtype = WIRE_DTYPE_F32, .units_unchanged = 4},
      VALUES}},
    {"pull_reply_unchanged",
     {.kind = WIRE_PULL_REPLY, .pull_reply = {.tag = 78, .version = 0x000100000000002A, .units_unchanged = 7}}},
    {"error",
     {.kind = WIRE_ERROR, .request = 3, .error = {.status = LG_NOT_FOUND, .reason = "no job 9 here", .seq = 301}}},
    {"job_open",
     {.kind = WIRE_JOB_OPEN,
      .request = 20,
      .job_open = {.job = 7,
                   .name = "digits",
                   .shard = 4,
                   .slot = 1,
                   .epoch = 1,
                   .map_version = 2,
                   .train_samples = 60000,
                   SPEC},
      TENSORS,
      PLACEMENT}},
    {"job_close", {.kind = WIRE_JOB_CLOSE, .request = 21, .job_close = {.job = 7, .shard = 4}}},
    {"session_open",
     {.kind = WIRE_SESSION_OPEN,
      .request = 22,
      .session_open = {.job = 7,
                       .shard = 4,
                       .session = 0x1122334455667788,
                       .incarnation = 2,
                       .token = 0xFEDCBA9876543210,
                       .may_push = true,
                       .may_initialise = true}}},
    {"session_close",
     {.kind = WIRE_SESSION_CLOSE,
      .request = 23,
      .session_close = {.job = 7,
                        .shard = 4,
                        .session = 0x1122334455667788,
                        .incarnation = 2,
                        .reason = "evicted: no beat for 5.0 s"}}},
    {"marks_query",
     {.kind = WIRE_MARKS_QUERY,
      .request = 24,
      .marks_query = {.job = 7, .shard = 4, .epoch = 1, .first = 4096, .end = 8192}}},
    {"marks_reply",
     {.kind = WIRE_MARKS_REPLY, .request = 24, .marks_reply = {.resume = 4100, .marks = positions, .mark_count = 3}}},
    {"ledger_query", {.kind = WIRE_LEDGER_QUERY, .request = 25, .ledger_query = {.job = 7, .shard = 4}}},
    {"ledger_reply", {.kind = WIRE_LEDGER_REPLY, .request = 25, .ledger_reply = {.rows = rows, .row_count = 2}}},
    {"ack",
     {.kind = WIRE_ACK, .request = 20, .ack = {.status = LG_NO_MEMORY, .reason = "12 MiB wanted, 8 MiB are left"}}},
    {"register",
     {.kind = WIRE_REGISTER,
      .request = 40,
      .register_ = {.kind = WIRE_MEMBER_AGENT,
                    .name = "node-3",
                    .instance = 0xABCDEF0123456789,
                    .endpoints = endpoints,
                    .endpoint_count = 2,
                    .memory_bytes = 1ULL << 36,
                    .slots = 4,
                    .devices = devices,
                    .device_count = 2,
                    .http = "127.0.0.1:9100",
                    .pid = 4242,
                    .version = "0.1.0",
                    .member = 6,
                    .cores = 2}}},
    {"register_reply",
     {.kind = WIRE_REGISTER_REPLY,
      .request = 40,
      .register_reply = {.member = 6,
                         .shards = shard_numbers,
                         .shard_count = 2,
                         .beat_ms = 1000,
                         .coordinator = 0x0102030405060708}}},
    {"beat",
     {.kind = WIRE_BEAT,
      .request = 41,
      .beat = {.member = 6,
               .instance = 0xABCDEF0123456789,
               .stats = stats,
               .stat_count = 2,
               .trainers = positions,
               .trainer_count = 2,
               .memory_used_bytes = 3 << 20}}},
    {"beat_devices",
     {.kind = WIRE_BEAT,
      .request = 42,
      .beat = {.member = 6,
               .instance = 0xFEDCBA9876543210,
               .stats = versioned_stats,
               .stat_count = 1,
               .devices = device_numbers,
               .device_count = 2}}},
    {"beat_reply", {.kind = WIRE_BEAT_REPLY, .request = 41, .beat_reply = {.register_again = true}}},
    {"trainer_start",
     {.kind = WIRE_TRAINER_START,
      .request = 42,
      .trainer_start = {.trainer = 31,
                        .token = 0x5555555555555555,
                        .job = 7,
                        .job_name = "digits",
                        .attempt = 2,
                        .device = "cuda:0",
                        SPEC}}},
    {"trainer_stop",
     {.kind = WIRE_TRAINER_STOP,
      .request = 43,
      .trainer_stop = {.trainer = 31, .grace_ms = 2000, .reason = "the job was cancelled"}}},
    {"trainer_exit",
     {.kind = WIRE_TRAINER_EXIT,
      .request = 44,
      .trainer_exit = {.trainer = 31, .code = -1, .signal = 9, .reason = "killed by signal 9"}}},
    {"log", {.kind = WIRE_LOG, .log = {.job = 7, .trainer = 31, .lines = lines, .line_count = 3}}},
    {"join",
     {.kind = WIRE_JOIN,
      .request = 60,
      .join = {.job = "digits",
               .role = WIRE_ROLE_TRAINER,
               .trainer = 31,
               .token = 0x5555555555555555,
               .dataset_fingerprint = 0x7777777777777777,
               .train_samples = 60000,
               .test_samples = 10000,
               .batch = 64,
               .device = "cpu"},
      TENSORS}},
    {"join_observer",
     {.kind = WIRE_JOIN, .request = 61, .join = {.job = "7", .role = WIRE_ROLE_OBSERVER, .device = "cpu"}}},
    {"join_reply",
     {.kind = WIRE_JOIN_REPLY,
      .request = 60,
      .join_reply = {.job = 7,
                     .session = 0x1122334455667788,
                     .incarnation = 2,
                     .token = 0xFEDCBA9876543210,
                     .map_version = 2,
                     .shards = addresses,
                     .shard_count = 2,
                     SPEC},
      TENSORS,
      PLACEMENT}},
    {"join_reply_later",
     {.kind = WIRE_JOIN_REPLY,
      .request = 60,
      .join_reply = {.status = LG_UNAVAILABLE, .reason = "the job has no values yet", .retry_ms = 500}}},
    {"lease_request",
     {.kind = WIRE_LEASE_REQUEST,
      .request = 62,
      .lease_request = {.session = 0x1122334455667788, .incarnation = 2, .samples_per_second = 1234.5}}},
    {"lease_grant",
     {.kind = WIRE_LEASE_GRANT,
      .request = 62,
      .lease_grant = {.kind = WIRE_LEASE_TRAIN,
                      .lease = 17,
                      .fence = 3,
                      .epoch = 1,
                      .first = 4096,
                      .end = 8192,
                      .cuts = positions,
                      .cut_count = 2}}},
    {"lease_grant_wait",
     {.kind = WIRE_LEASE_GRANT,
      .request = 62,
      .lease_grant = {.kind = WIRE_LEASE_WAIT, .retry_ms = 250, .reason = "waiting for the first values"}}},
    {"lease_done",
     {.kind = WIRE_LEASE_DONE,
      .request = 63,
      .lease_done = {.session = 0x1122334455667788, .incarnation = 2, .lease = 17, .fence = 3}}},
    {"eval_report",
     {.kind = WIRE_EVAL_REPORT,
      .request = 64,
      .eval_report = {.session = 0x1122334455667788,
                      .incarnation = 2,
                      .lease = 18,
                      .epoch = 1,
                      .loss = 0.0625,
                      .accuracy = 0.9875,
                      .predictions = 10000}}},
    {"leave",
     {.kind = WIRE_LEAVE, .request = 65, .leave = {.session = 0x1122334455667788, .incarnation = 2, .reason = "done"}}},
    {"trainer_beat",
     {.kind = WIRE_TRAINER_BEAT,
      .request = 66,
      .trainer_beat = {.session = 0x1122334455667788,
                       .incarnation = 2,
                       .steps = 500,
                       .samples = 32000,
                       .loss = 0.5,
                       .accuracy = 0.75,
                       .compute_ns = 4000000000,
                       .communication_ns = 300000000,
                       .samples_per_second = 7441.860465116279,
                       .state = "training"}}},
    {"trainer_beat_staleness",
     {.kind = WIRE_TRAINER_BEAT,
      .request = 67,
      .trainer_beat = {.session = 0x1122334455667788,
                       .incarnation = 2,
                       .steps = 500,
                       .transport = "shm",
                       .staleness_mean = 2.5,
                       .staleness_max = 11,
                       .weight_mean = 0.625,
                       .pushes_dropped = 3}}},
    {"trainer_beat_parts",
     {.kind = WIRE_TRAINER_BEAT,
      .request = 68,
      .trainer_beat = {.session = 0x1122334455667788,
                       .incarnation = 2,
                       .steps = 500,
                       .compute_ns = 4000000000,
                       .communication_ns = 300000000,
                       .read_ns = 90000000,
                       .copy_ns = 210000000,
                       .copy_bytes = 1ULL << 33,
                       .wait_ns = 250000000,
                       .tokens_per_second = 125000.5,
                       .flops_per_second = 1.5e14,
                       .flops_peak = 9.89e14,
                       .memory_used_bytes = 6ULL << 30}}},
    {"trainer_beat_reply",
     {.kind = WIRE_TRAINER_BEAT_REPLY,
      .request = 66,
      .trainer_beat_reply = {.status = LG_FENCED, .reason = "session 9 was evicted"}}},
    {"submit", {.kind = WIRE_SUBMIT, .request = 80, .submit = {SPEC, .external_init = true}}},
    {"submit_reply",
     {.kind = WIRE_SUBMIT_REPLY,
      .request = 80,
      .submit_reply = {.job = 7, .name = "digits", .warnings = lines, .warning_count = 1}}},
    {"cancel", {.kind = WIRE_CANCEL, .request = 81, .cancel = {.job = "digits", .reason = "wrong seed"}}},
    {"query", {.kind = WIRE_QUERY, .request = 82, .query = {.what = "log", .job = "7", .since = 120, .limit = 100}}},
    {"query_reply",
     {.kind = WIRE_QUERY_REPLY,
      .request = 82,
      .query_reply = {.next = 220},
      .document = {"{\"lines\":[\"fin \u2713\"]}", 21}}},
};
enum { GOLDEN_COUNT = sizeof goldens / sizeof *goldens };

static void golden_path(const struct golden *golden, char path[200]) {
    const char *root = getenv("LAGOON_ROOT");
    snprintf(path, 200, "%.100s/tests/golden/%s.bin", root ? root : ".", golden->name);
}

/* The file's frames; false (with the reason on stderr) when it cannot be read. */
static bool golden_read(const struct golden *golden, struct wire_frames *out) {
    static unsigned char bytes[FILE_BYTES_MAX];
    char path[200];
    golden_path(golden, path);
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s: %s; run from the repository's root\n", path, strerror(errno));
        return false;
    }
    size_t count = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    wire_frames_parse(bytes, count, out);
    return true;
}

START_TEST(file_means_the_message) {
    const struct golden *golden = &goldens[_i];
    struct wire_frames frames;
    struct wire_message message;
    struct lg_error error = {0};
    struct wire_arena *arena = wire_arena_new(1 << 20);
    ck_assert_ptr_nonnull(arena);
    ck_assert_msg(golden_read(golden, &frames), "%s.bin cannot be read", golden->name);
    enum lg_status status = wire_decode(frames.frames, frames.count, arena, &message, &error);
    ck_assert_msg(status == LG_OK, "%s.bin: %s", golden->name, error.message);
    const char *difference = wire_difference(&golden->message, &message);
    ck_assert_msg(!difference, "%s.bin: another %s", golden->name, difference);
    wire_frames_free(&frames);
    wire_arena_free(arena);
}
END_TEST

START_TEST(message_makes_the_file) {
    const struct golden *golden = &goldens[_i];
    struct wire_frames file, made;
    ck_assert_msg(golden_read(golden, &file), "%s.bin cannot be read", golden->name);
    ck_assert(wire_frames_encode(&golden->message, &made));
    ck_assert_msg(wire_frames_equal(&file, &made), "%s.bin: other bytes", golden->name);
    wire_frames_free(&file);
    wire_frames_free(&made);
}
END_TEST

START_TEST(every_kind_has_a_file) {
    static const enum wire_kind kinds[] = {
#define BODY(KIND, name, Type, member) WIRE_##KIND,
#include "proto/wire_fields.def"
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t found = 0;
        for (size_t i = 0; i < GOLDEN_COUNT; i++)
            found += goldens[i].message.kind == kinds[k];
        ck_assert_msg(found > 0, "no golden file of a %s", wire_kind_name(kinds[k]));
    }
}
END_TEST

/* Bytes spelled out once, so that files and code cannot both be wrong in the same way. */
START_TEST(an_error_is_these_bytes) {
    static const unsigned char expected[] = {
        0x08, 0x01,                                                                   /* protocol 1 */
        0x10, 0x03,                                                                   /* request 3 */
        0x82, 0x01, 0x14,                                                             /* body 16, 20 bytes */
        0x08, 0x02,                                                                   /* status 2, not-found */
        0x12, 0x0D, 'n',  'o', ' ', 'j', 'o', 'b', ' ', '9', ' ', 'h', 'e', 'r', 'e', /* reason */
        0x18, 0xAD, 0x02,                                                             /* seq 301 */
    };
    for (size_t i = 0; i < GOLDEN_COUNT; i++)
        if (goldens[i].message.kind == WIRE_ERROR) {
            unsigned char header[sizeof expected];
            ck_assert_uint_eq(wire_header_bytes(&goldens[i].message), sizeof expected);
            wire_header_write(&goldens[i].message, header);
            ck_assert_mem_eq(header, expected, sizeof expected);
        }
}
END_TEST

static int write_missing(void) {
    for (size_t i = 0; i < GOLDEN_COUNT; i++) {
        char path[200];
        struct wire_frames frames;
        golden_path(&goldens[i], path);
        FILE *file = fopen(path, "wbx");
        if (!file && errno == EEXIST)
            continue;
        if (!file || !wire_frames_encode(&goldens[i].message, &frames) || !wire_frames_write(&frames, file) ||
            fclose(file) != 0) {
            fprintf(stderr, "%s: cannot be written\n", path);
            return EXIT_FAILURE;
        }
        wire_frames_free(&frames);
        printf("wrote %s\n", path);
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--write") == 0)
        return write_missing();
    Suite *suite = suite_create("golden");
    TCase *tcase = tcase_create("golden");
    tcase_add_loop_test(tcase, file_means_the_message, 0, GOLDEN_COUNT);
    tcase_add_loop_test(tcase, message_makes_the_file, 0, GOLDEN_COUNT);
    tcase_add_test(tcase, every_kind_has_a_file);
    tcase_add_test(tcase, an_error_is_these_bytes);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
