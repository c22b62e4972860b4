/* What a job is made of, as its first trainer said: every later trainer must say the same. Then admission by bytes,
 * placement, and opening the job on its shards. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "server/coordinator/core.h"
#include "server/coordinator/placement.h"

enum { DEFINITION_ARENA_BYTES = 64 << 20, ELEMENT_BYTES = 4 };

/* ---- the same model and data everywhere */

static void describe_shape(const struct tensor_spec *spec, char *text, size_t bytes) {
    size_t used = (size_t)snprintf(text, bytes, "\"%s\" [", spec->name);
    for (uint32_t i = 0; i < spec->rank && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%" PRIu64, i ? " x " : "", spec->shape[i]);
    if (used < bytes)
        snprintf(text + used, bytes - used, "]");
}

static enum lg_status differing_tensor(const struct job *job, const struct wire_message *join, struct lg_error *error) {
    char here[192], there[192];
    if (join->tensor_count != job->tensor_count)
        return lg_fail(error, LG_INVALID,
                       "the model differs from the job's: it has %zu tensors, the job has %zu; run the same version "
                       "with the same options everywhere",
                       join->tensor_count, job->tensor_count);
    for (size_t i = 0; i < job->tensor_count; i++) {
        if (tensor_table_fingerprint(&join->tensors[i], 1) == tensor_table_fingerprint(&job->tensors[i], 1))
            continue;
        describe_shape(&join->tensors[i], there, sizeof there);
        describe_shape(&job->tensors[i], here, sizeof here);
        return lg_fail(
            error, LG_INVALID,
            "the model differs from the job's: tensor %zu is %s, in the job it is %s%s; run the same version "
            "with the same options everywhere",
            i, there, here, strcmp(here, there) == 0 ? " with other settings" : "");
    }
    return lg_fail(error, LG_INVALID, "the model differs from the job's");
}

static enum lg_status compare(const struct job *job, const struct wire_message *join, struct lg_error *error) {
    const struct wire_join *from = &join->join;
    if (tensor_table_fingerprint(join->tensors, join->tensor_count) != job->fingerprint)
        return differing_tensor(job, join, error);
    if (from->train_samples != job->train_samples || from->test_samples != job->test_samples)
        return lg_fail(error, LG_INVALID,
                       "the dataset differs from the job's: %" PRIu64 " training and %" PRIu64
                       " test samples here, %" PRIu64 " and %" PRIu64 " in the job; put the same files on every worker",
                       from->train_samples, from->test_samples, job->train_samples, job->test_samples);
    if (from->dataset_fingerprint != job->dataset_fingerprint)
        return lg_fail(error, LG_INVALID,
                       "the dataset differs from the job's: its fingerprint is %016" PRIx64 ", the job's is %016" PRIx64
                       "; put the same files on every worker",
                       from->dataset_fingerprint, job->dataset_fingerprint);
    return LG_OK;
}

static enum lg_status take_tensors(struct job *job, const struct tensor_spec *tensors, size_t count,
                                   struct lg_error *error) {
    if (count == 0)
        return lg_fail(error, LG_INVALID, "a trainer must send its tensor table");
    job->tensors = malloc(count * sizeof *tensors);
    if (!job->tensors)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the tensors of job \"%s\"", job->name);
    memcpy(job->tensors, tensors, count * sizeof *tensors);
    job->tensor_count = count;
    enum lg_status status = block_table_init(&job->blocks, job->tensors, count, error);
    if (status != LG_OK) {
        free(job->tensors);
        job->tensors = NULL;
        job->tensor_count = 0;
        return status;
    }
    job->fingerprint = tensor_table_fingerprint(job->tensors, count);
    return LG_OK;
}

enum lg_status define_check(struct coordinator *core, struct job *job, const struct wire_message *join,
                            struct lg_error *error) {
    const struct wire_join *from = &join->join;
    char parameters[UNITS_TEXT_BYTES], samples[UNITS_TEXT_BYTES];
    if (job->tensors)
        return compare(job, join, error);
    if (from->train_samples == 0)
        return lg_fail(error, LG_INVALID, "the dataset has no training samples; check dataset.* of the job");
    enum lg_status status = take_tensors(job, join->tensors, join->tensor_count, error);
    if (status != LG_OK)
        return status;
    job->dataset_fingerprint = from->dataset_fingerprint;
    job->train_samples = from->train_samples;
    job->test_samples = from->test_samples;
    history_add(core, job, "defined by the first trainer: %s parameters in %zu tensors, %s training samples",
                units_count(tensor_total_elements(job->tensors, job->tensor_count), parameters, sizeof parameters),
                job->tensor_count, units_count(job->train_samples, samples, sizeof samples));
    return LG_OK;
}

/* ---- room */

static uint64_t shard_capacity(const struct member *server) {
    return server->memory_bytes ? server->memory_bytes / server->shard_count : UINT64_MAX / 4 / WIRE_SHARDS_MAX;
}

static uint64_t held_on(const struct job *job, uint32_t shard) {
    size_t slot = job->memory == JOB_MEMORY_NONE ? SIZE_MAX : job_slot_of(job, shard);
    return slot == SIZE_MAX ? 0 : job->slot_bytes[slot];
}

static uint64_t used_on(const struct coordinator *core, uint32_t shard) {
    uint64_t used = 0;
    for (size_t i = 0; i < core->jobs.count; i++)
        used += held_on(core->jobs.items[i], shard);
    return used;
}

struct room {
    struct placement_shard shards[WIRE_SHARDS_MAX];
    size_t count;
    uint64_t free_bytes, total_bytes; /* of the shards alive; of all servers known */
};

static void look_for_room(const struct coordinator *core, struct room *room) {
    room->count = 0;
    room->free_bytes = room->total_bytes = 0;
    for (size_t i = 0; i < core->members.count; i++) {
        const struct member *server = core->members.items[i];
        for (size_t s = 0; server->kind == WIRE_MEMBER_SERVER && s < server->shard_count; s++) {
            uint64_t capacity = shard_capacity(server), used = used_on(core, server->shards[s]);
            uint64_t left = capacity > used ? capacity - used : 0;
            room->total_bytes += capacity;
            if (!member_is_alive(server) || server->route == 0 || room->count == WIRE_SHARDS_MAX)
                continue;
            room->shards[room->count++] = (struct placement_shard){server->shards[s], left, used};
            room->free_bytes += left;
        }
    }
}

static bool fits(const struct job *job, const struct room *room, uint16_t *placement) {
    struct lg_error ignored;
    return placement_place(job->blocks.blocks, job->blocks.count, ELEMENT_BYTES * (1 + (uint64_t)job->state_count),
                           room->shards, room->count, placement, &ignored) == LG_OK;
}

/* Ended jobs keep their values only while nobody needs the room: which must go, oldest first, for `job` to fit? Tells
 * them; true when waiting for them helps. */
static bool make_room(struct coordinator *core, const struct job *job, struct room *room, uint16_t *placement) {
    struct job *going[CORE_JOBS_ENDED_MAX + 1];
    size_t count = 0;
    bool enough = false;
    for (size_t i = 0; i < core->jobs.count && !enough && count < CORE_JOBS_ENDED_MAX; i++) {
        struct job *ended = core->jobs.items[i];
        if (job_is_live(ended) || ended->memory == JOB_MEMORY_NONE)
            continue;
        going[count++] = ended;
        for (size_t s = 0; s < room->count; s++)
            room->shards[s].free_bytes += held_on(ended, room->shards[s].shard);
        enough = fits(job, room, placement);
    }
    for (size_t i = 0; enough && i < count; i++) {
        if (going[i]->memory == JOB_MEMORY_HELD)
            history_add(core, going[i], "its values are dropped from the shards: job \"%s\" needs the room", job->name);
        job_release(core, going[i]);
    }
    return enough;
}

/* ---- placing */

static bool allocate_slots(struct job *job, size_t count) {
    job->shards = calloc(count, sizeof *job->shards);
    job->slot_bytes = calloc(count, sizeof *job->slot_bytes);
    job->slot_units = calloc(count, sizeof *job->slot_units);
    job->stats = calloc(count, sizeof *job->stats);
    job->work = calloc(count, sizeof *job->work);
    return job->shards && job->slot_bytes && job->slot_units && job->stats && job->work;
}

static void count_slots(struct job *job) {
    for (size_t unit = 0; unit < job->blocks.count; unit++) {
        job->slot_units[job->placement[unit]]++;
        job->slot_bytes[job->placement[unit]] +=
            job->blocks.blocks[unit].elements * ELEMENT_BYTES * (1 + (uint64_t)job->state_count);
    }
}

static enum lg_status open_leases(struct coordinator *core, struct job *job, struct lg_error *error) {
    struct leases_config config = {.samples = job->train_samples,
                                   .epochs = (uint64_t)job->config.epochs,
                                   .evaluate_every = (uint64_t)job->config.evaluate_epochs,
                                   .evaluate = job->test_samples > 0};
    enum lg_status status = leases_init(&job->leases, &config, error);
    if (status != LG_OK)
        return status;
    job->placed = true;
    const char *labels[] = {job->name};
    if (core->config.metrics) {
        job->leases_granted = metrics_cell(core->config.metrics, METRIC_LEASES_GRANTED, labels);
        job->leases_revoked = metrics_cell(core->config.metrics, METRIC_LEASES_REVOKED, labels);
    }
    return LG_OK;
}

/* `placement` (of room->shards) is taken over. */
static void place(struct coordinator *core, struct job *job, const struct room *room, uint16_t *placement) {
    uint16_t order[WIRE_SHARDS_MAX];
    char bytes[UNITS_TEXT_BYTES];
    struct lg_error error = {.message = "no memory for its placement"};
    uint64_t total = 0;
    job->placement = placement;
    job->shard_count = placement_compact(placement, job->blocks.count, room->count, order);
    if (!allocate_slots(job, job->shard_count) || open_leases(core, job, &error) != LG_OK) {
        job_fail(core, job, "%s", error.message);
        return;
    }
    for (size_t i = 0; i < job->shard_count; i++)
        job->shards[i] = room->shards[order[i]].shard;
    count_slots(job);
    for (size_t i = 0; i < job->shard_count; i++)
        total += job->slot_bytes[i];
    job->memory = JOB_MEMORY_HELD;
    job->epoch = job->map_version = 1;
    job->definition_changed = true;
    job_set_phase(core, job, JOB_PHASE_DEFINING);
    history_add(core, job, "placed on %zu shard%s: %u units, %s of parameters and optimizer state", job->shard_count,
                job->shard_count == 1 ? "" : "s", job->blocks.count, units_bytes(total, bytes, sizeof bytes));
    task_start(core, TASK_KIND_JOB_OPEN, job, NULL, NULL);
}

static bool fits_when_empty(const struct coordinator *core, const struct job *job, struct room *room,
                            uint16_t *placement) {
    room->count = 0;
    for (size_t i = 0; i < core->members.count; i++) {
        const struct member *server = core->members.items[i];
        for (size_t s = 0; server->kind == WIRE_MEMBER_SERVER && s < server->shard_count; s++)
            if (room->count < WIRE_SHARDS_MAX)
                room->shards[room->count++] = (struct placement_shard){.free_bytes = shard_capacity(server)};
    }
    return fits(job, room, placement);
}

void define_place(struct coordinator *core, struct job *job) {
    static struct room room; /* large; one coordinator thread */
    char needed[UNITS_TEXT_BYTES], there[UNITS_TEXT_BYTES];
    uint64_t bytes =
        tensor_total_elements(job->tensors, job->tensor_count) * ELEMENT_BYTES * (1 + (uint64_t)job->state_count);
    job->placed_ns = core->now.now_ns;
    look_for_room(core, &room);
    if (room.count == 0) {
        job_wait_reason(job, "waiting for a server to register");
        return;
    }
    units_bytes(bytes, needed, sizeof needed);
    if (bytes > room.total_bytes) {
        job_fail(core, job,
                 "needs %s for parameters and optimizer state, all servers together have %s; start more servers, raise "
                 "shards.memory, or choose an updater with less state",
                 needed, units_bytes(room.total_bytes, there, sizeof there));
        return;
    }
    uint16_t *placement = calloc(job->blocks.count, sizeof *placement);
    if (!placement)
        return;
    if (fits(job, &room, placement)) {
        place(core, job, &room, placement);
        return;
    }
    units_bytes(room.free_bytes, there, sizeof there);
    if (make_room(core, job, &room, placement))
        job_wait_reason(job, "needs %s, %s free; waiting for ended jobs to let go of theirs", needed, there);
    else if (fits_when_empty(core, job, &room, placement))
        job_wait_reason(job, "needs %s, %s free", needed, there);
    else
        job_fail(core, job,
                 "needs %s in units of up to 256 KiB and their state, and no arrangement over the servers "
                 "has room for them; raise shards.memory",
                 needed);
    free(placement);
}

void define_opened(struct coordinator *core, struct job *job) {
    if (job->phase != JOB_PHASE_DEFINING)
        return;
    job_set_phase(core, job, JOB_PHASE_INITIALISING);
    if (job->external_init)
        job_wait_reason(job, "waiting for initial values from a file");
}

/* ---- rows */

void define_put(struct coordinator *core, const struct job *job) {
    struct wire_message message = {.kind = WIRE_JOB_OPEN,
                                   .tensors = job->tensors,
                                   .tensor_count = job->tensor_count,
                                   .placement = job->placement,
                                   .placement_count = job->blocks.count};
    struct wire_bytes frames[2];
    struct buf shards = {0};
    size_t count = 0;
    void *scratch = NULL;
    for (size_t i = 0; i < job->shard_count; i++)
        buf_printf(&shards, "%s%u", i ? "," : "", job->shards[i]);
    if (wire_raw_frames(&message, frames, 2, &count, &scratch) == LG_OK && count == 2)
        core_put(core, STORE_TABLE_DEFINITION,
                 &(struct store_definition){job->id, frames[0], frames[1], buf_string(&shards), job->epoch,
                                            job->map_version, job->dataset_fingerprint, job->train_samples,
                                            job->test_samples});
    free(scratch);
    buf_deinit(&shards);
}

static enum lg_status restore_shards(struct job *job, const char *list, struct lg_error *error) {
    size_t count = *list != '\0';
    for (const char *c = list; *c; c++)
        count += *c == ',';
    if (count == 0 || count > WIRE_SHARDS_MAX)
        return lg_fail(error, LG_INVALID, "the shards of job \"%s\" are \"%.100s\"", job->name, list);
    if (!allocate_slots(job, count))
        return lg_fail(error, LG_NO_MEMORY, "no memory for the shards of job \"%s\"", job->name);
    for (job->shard_count = 0; job->shard_count < count; job->shard_count++) {
        job->shards[job->shard_count] = (uint32_t)strtoul(list, NULL, 10);
        list = strchr(list, ',');
        list = list ? list + 1 : "";
    }
    return LG_OK;
}

static enum lg_status restore_placement(struct job *job, const struct wire_message *message, struct lg_error *error) {
    for (size_t i = 0; i < message->placement_count; i++)
        if (message->placement[i] >= job->shard_count)
            return lg_fail(error, LG_INVALID, "unit %zu of job \"%s\" lies on no shard", i, job->name);
    job->placement = malloc(message->placement_count * sizeof *job->placement + 1);
    if (!job->placement)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the placement of job \"%s\"", job->name);
    memcpy(job->placement, message->placement, message->placement_count * sizeof *job->placement);
    return LG_OK;
}

/* The frames are read as those of a JOB_OPEN: what checks bytes from the wire checks bytes from the disk. */
static enum lg_status restore_frames(struct job *job, const struct store_definition *row, struct wire_arena *arena,
                                     struct lg_error *error) {
    unsigned char header[256];
    struct wire_message open = {.kind = WIRE_JOB_OPEN}, message;
    size_t bytes = wire_header_bytes(&open);
    if (bytes > sizeof header)
        return lg_fail(error, LG_INTERNAL, "an empty JOB_OPEN has %zu bytes", bytes);
    wire_header_write(&open, header);
    const struct wire_bytes frames[] = {{header, bytes}, row->tensors, row->placement};
    enum lg_status status = wire_decode(frames, 3, arena, &message, error);
    if (status == LG_OK)
        status = take_tensors(job, message.tensors, message.tensor_count, error);
    if (status == LG_OK)
        status = restore_placement(job, &message, error);
    return status;
}

enum lg_status define_restore(struct coordinator *core, const struct store_definition *row, struct lg_error *error) {
    struct job *job = job_find(core, row->job);
    if (!job || job->placed)
        return lg_fail(error, LG_INVALID, "the definition of job %" PRIu64 " belongs to no job", row->job);
    if (row->epoch == 0 || row->map_version == 0)
        return lg_fail(error, LG_INVALID,
                       "the definition of job \"%s\" has epoch %" PRIu64 " and map version %" PRIu64
                       ", which begin at 1",
                       job->name, row->epoch, row->map_version);
    struct wire_arena *arena = wire_arena_new(DEFINITION_ARENA_BYTES);
    if (!arena)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the definition of job \"%s\"", job->name);
    job->epoch = row->epoch;
    job->map_version = row->map_version;
    job->dataset_fingerprint = row->dataset_fingerprint;
    job->train_samples = row->train_samples;
    job->test_samples = row->test_samples;
    enum lg_status status = restore_shards(job, row->shards, error);
    if (status == LG_OK)
        status = restore_frames(job, row, arena, error);
    if (status == LG_OK)
        status = open_leases(core, job, error);
    if (status == LG_OK)
        count_slots(job);
    wire_arena_free(arena);
    return status;
}
