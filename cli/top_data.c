/* From the coordinator's "stats" document to numbers. Whatever it lacks, as that of an older coordinator does, is not
 * known. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/table.h"
#include "cli/top.h"
#include "common/units.h"

/* Texts of others go to a terminal: control characters become '?', C1 ones in UTF-8 too. */
static void copy_text(char *to, size_t bytes, const char *from) {
    size_t used = 0;
    for (; *from && used + 1 < bytes; from++) {
        unsigned char byte = (unsigned char)*from, next = (unsigned char)from[1];
        bool hidden = byte < 0x20 || byte == 0x7f;
        if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {
            hidden = true;
            from++;
        }
        to[used++] = hidden ? '?' : (char)byte;
    }
    while (used > 0 && *from && ((unsigned char)*from & 0xc0) == 0x80) /* cut within a character: all of it goes */
        if (((unsigned char)to[--used] & 0xc0) != 0x80)
            break;
    to[used] = '\0';
}

static void text_of(const json_t *object, const char *key, char to[TOP_TEXT_BYTES]) {
    copy_text(to, TOP_TEXT_BYTES, field_text(object, key, "-"));
    if (!to[0])
        memcpy(to, "-", 2);
}

static double number_of(const json_t *object, const char *key) {
    return field_number(object, key, NAN);
}

/* A rate that is zero says nothing. */
static double rate_of(const json_t *object, const char *key) {
    double rate = number_of(object, key);
    return rate > 0 ? rate : NAN;
}

/* ---- the head */

static void read_head(struct top *top, const json_t *status) {
    const json_t *coordinator = json_object_get(status, "coordinator");
    char uptime[UNITS_TEXT_BYTES], address[TOP_TEXT_BYTES];
    long long uptime_s = field_integer(coordinator, "uptime_s", 0);
    text_of(coordinator, "address", address);
    units_duration(1000 * uptime_s, uptime, sizeof uptime);
    snprintf(top->head, sizeof top->head, "lagoon %s, up %s: servers %lld, shards %lld, workers %lld", address, uptime,
             field_integer(status, "servers", 0), field_integer(status, "shards", 0),
             field_integer(status, "workers", 0));
}

/* ---- jobs */

static void read_job(struct top_job *job, const json_t *row) {
    const json_t *staleness = json_object_get(row, "staleness");
    double total = field_number(row, "samples_total", 0), done = field_number(row, "samples_applied", 0);
    double flops = rate_of(row, "flops_per_second"), peak = rate_of(row, "flops_peak");
    *job = (struct top_job){
        .id = field_integer(row, "id", 0),
        .epoch = field_epoch(row),
        .epochs = field_integer(row, "epochs", 0),
        .trainers = field_integer(row, "trainers", 0),
        .done = total > 0 ? done / total : NAN,
        .samples_per_second = rate_of(row, "samples_per_second"),
        .tokens_per_second = rate_of(row, "tokens_per_second"),
        .utilisation = flops / peak,
        .loss = done > 0 ? number_of(row, "loss") : NAN,
        .staleness_mean = done > 0 ? number_of(staleness, "mean") : NAN,
        .staleness_max = done > 0 ? number_of(staleness, "max") : NAN,
    };
    text_of(row, "name", job->name);
    text_of(row, "state", job->state);
    job->live = field_is_live(row);
}

/* Live ones as they came, then ended ones, the newest first. */
static int compare_jobs(const void *a, const void *b) {
    const struct top_job *x = a, *y = b;
    if (x->live != y->live)
        return x->live ? -1 : 1;
    if (x->id == y->id)
        return 0;
    return (x->id < y->id) == x->live ? -1 : 1;
}

static void read_jobs(struct top *top, const json_t *rows) {
    json_t *row;
    size_t i, ended = 0;
    json_array_foreach(rows, i, row) {
        read_job(&top->jobs[top->job_count++], row);
    }
    qsort(top->jobs, top->job_count, sizeof *top->jobs, compare_jobs);
    for (i = 0; i < top->job_count && ended <= TOP_ENDED_SHOWN; i++)
        ended += !top->jobs[i].live;
    top->job_count = i - (ended > TOP_ENDED_SHOWN);
}

static long long job_number(const struct top *top, const char *name) {
    for (size_t i = 0; i < top->job_count; i++)
        if (strcmp(top->jobs[i].name, name) == 0)
            return top->jobs[i].id;
    return 0;
}

/* ---- trainers */

static void read_shares(struct top_trainer *trainer, const json_t *row) {
    const json_t *recent = json_object_get(row, "recent");
    double compute = number_of(recent, "compute_seconds"), communication = number_of(recent, "communication_seconds");
    double all = compute + communication;
    if (!(all > 0))
        all = NAN;
    trainer->read = number_of(recent, "read_seconds") / all;
    trainer->copy = number_of(recent, "copy_seconds") / all;
    trainer->wait = number_of(recent, "wait_seconds") / all;
    trainer->compute = fmax(0, compute / all - trainer->read - trainer->copy);
    trainer->send = fmax(0, communication / all - trainer->wait);
    if (isnan(all))
        trainer->compute = trainer->send = NAN; /* fmax passes over them */
}

/* "cuda:0, NVIDIA H100, 81559 MiB" is called "cuda:0". */
static void cut_device(char *device) {
    device[strcspn(device, ",")] = '\0';
}

static void read_trainer(struct top *top, const json_t *worker, const json_t *row) {
    struct top_trainer *trainer = &top->trainers[top->trainer_count++];
    bool steps = field_integer(row, "steps", 0) > 0;
    *trainer = (struct top_trainer){
        .number = field_integer(row, "trainer", 0),
        .samples_per_second = rate_of(row, "samples_per_second"),
        .tokens_per_second = rate_of(row, "tokens_per_second"),
        .staleness = steps ? number_of(row, "staleness_mean") : NAN,
        .weight = steps ? number_of(row, "weight_mean") : NAN,
        .memory_bytes = rate_of(row, "memory_used_bytes"),
    };
    text_of(row, "job", trainer->job_name);
    text_of(worker, "name", trainer->worker);
    text_of(row, "device", trainer->device);
    text_of(row, "state", trainer->state);
    text_of(row, "transport", trainer->via);
    cut_device(trainer->device);
    read_shares(trainer, row);
    trainer->job = job_number(top, trainer->job_name);
}

static int compare_trainers(const void *a, const void *b) {
    const struct top_trainer *x = a, *y = b;
    if (x->job != y->job)
        return x->job < y->job ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

/* ---- devices */

static const json_t *numbers_of(const json_t *worker, const char *device) {
    json_t *row;
    size_t i;
    json_array_foreach(json_object_get(worker, "device_stats"), i, row) {
        if (strcmp(field_text(row, "device", ""), device) == 0)
            return row;
    }
    return NULL;
}

/* What a worker that is silent told last is not what its devices do now. */
static void read_device(struct top *top, const json_t *worker, const char *name) {
    struct top_device *device = &top->devices[top->device_count++];
    bool alive = strcmp(field_text(worker, "state", "alive"), "alive") == 0;
    const json_t *numbers = alive ? numbers_of(worker, name) : NULL;
    *device = (struct top_device){
        .used_bytes = number_of(numbers, "memory_used_bytes"),
        .total_bytes = number_of(numbers, "memory_bytes"),
        .utilisation = number_of(numbers, "utilisation"),
        .temperature_c = number_of(numbers, "temperature_c"),
        .power_w = number_of(numbers, "power_w"),
    };
    text_of(worker, "name", device->worker);
    text_of(alive ? numbers : worker, alive ? "name" : "state", device->name);
    device->alive = alive;
    copy_text(device->device, sizeof device->device, name);
}

static void read_workers(struct top *top, const json_t *workers) {
    json_t *worker, *row;
    size_t i, j;
    json_array_foreach(workers, i, worker) {
        json_array_foreach(json_object_get(worker, "trainers"), j, row) {
            read_trainer(top, worker, row);
        }
        json_array_foreach(json_object_get(worker, "devices"), j, row) {
            read_device(top, worker, json_is_string(row) ? json_string_value(row) : "-");
        }
    }
    qsort(top->trainers, top->trainer_count, sizeof *top->trainers, compare_trainers);
}

/* ---- shards */

static void read_shard(struct top_shard *shard, const json_t *row) {
    const json_t *jobs = json_object_get(row, "jobs");
    json_t *job;
    size_t i;
    *shard = (struct top_shard){.number = field_integer(row, "shard", 0)};
    text_of(row, "server", shard->server);
    text_of(row, "state", shard->state);
    if (json_array_size(jobs) == 0)
        shard->pushes_per_second = shard->pulls_per_second = shard->bytes_per_second = NAN;
    json_array_foreach(jobs, i, job) {
        shard->memory_bytes += field_number(job, "parameter_bytes", 0) + field_number(job, "state_bytes", 0);
        shard->pushes_per_second += number_of(job, "pushes_per_second");
        shard->pulls_per_second += number_of(job, "pulls_per_second");
        shard->bytes_per_second += number_of(job, "bytes_per_second");
        shard->version = i == 0 ? (long long)json_integer_value(json_object_get(job, "version")) : 0;
    }
}

static void read_shards(struct top *top, const json_t *rows) {
    json_t *row;
    size_t i;
    json_array_foreach(rows, i, row) {
        read_shard(&top->shards[top->shard_count++], row);
    }
}

/* ---- all of it */

static bool allocate(struct top *top, const json_t *stats) {
    size_t i, trainers = 0, devices = 0;
    json_t *worker;
    json_array_foreach(json_object_get(stats, "workers"), i, worker) {
        trainers += json_array_size(json_object_get(worker, "trainers"));
        devices += json_array_size(json_object_get(worker, "devices"));
    }
    top->jobs = calloc(json_array_size(json_object_get(stats, "jobs")) + 1, sizeof *top->jobs);
    top->trainers = calloc(trainers + 1, sizeof *top->trainers);
    top->devices = calloc(devices + 1, sizeof *top->devices);
    top->shards = calloc(json_array_size(json_object_get(stats, "shards")) + 1, sizeof *top->shards);
    return top->jobs && top->trainers && top->devices && top->shards;
}

void top_deinit(struct top *top) {
    free(top->jobs);
    free(top->trainers);
    free(top->devices);
    free(top->shards);
    *top = (struct top){0};
}

bool top_read(struct top *top, const json_t *stats) {
    struct top fresh = {0};
    if (!allocate(&fresh, stats)) {
        top_deinit(&fresh);
        return false;
    }
    read_head(&fresh, json_object_get(stats, "status"));
    read_jobs(&fresh, json_object_get(stats, "jobs"));
    read_workers(&fresh, json_object_get(stats, "workers"));
    read_shards(&fresh, json_object_get(stats, "shards"));
    memcpy(fresh.lost, top->lost, sizeof fresh.lost);
    top_deinit(top);
    *top = fresh;
    return true;
}
