/* JSON documents about jobs. */
#include <math.h>
#include <string.h>

#include "server/coordinator/queries.h"

enum { HISTORY_SHOWN = 40 };

static json_t *real(double number) {
    return isfinite(number) ? json_real(number) : json_null();
}

/* Zero stands for what is not known. */
static json_t *known(double number) {
    return number > 0 ? real(number) : json_null();
}

const char *query_trainer_state(const struct trainer *trainer, const struct session *session) {
    if (trainer->state == TRAINER_STATE_STOPPING)
        return "stopping";
    if (session && session->state == SESSION_STATE_CLOSING)
        return "given up";
    if (session && session->doing[0])
        return session->doing;
    return trainer->state == TRAINER_STATE_RUNNING ? "running" : "starting";
}

const char *query_trainer_device(const struct trainer *trainer, const struct session *session) {
    return session && session->device[0] ? session->device : trainer->device;
}

/* ---- numbers over trainers and shards */

struct totals {
    double rate, loss, staleness_mean, weight_mean;
    double tokens, flops, flops_peak; /* per second; 0: not known, or not of all trainers */
    uint64_t staleness_p99, staleness_max, dropped, samples_least, pushes;
};

static void sum_trainers(const struct coordinator *core, const struct job *job, struct totals *totals) {
    double weight = 0, loss = 0;
    bool peaks_known = true;
    for (size_t i = 0; i < core->sessions.count; i++) {
        const struct session *session = core->sessions.items[i];
        if (session->job != job->id || session->role != WIRE_ROLE_TRAINER || session->state != SESSION_STATE_OPEN)
            continue;
        totals->rate += session->samples_per_second;
        totals->tokens += session->tokens_per_second;
        totals->flops += session->flops_per_second;
        totals->flops_peak += session->flops_peak;
        peaks_known = peaks_known && session->flops_peak > 0;
        if (session->steps == 0)
            continue;
        loss += session->loss * (session->samples_per_second + 1e-9);
        weight += session->samples_per_second + 1e-9;
    }
    totals->loss = weight > 0 ? loss / weight : job->loss;
    if (!peaks_known)
        totals->flops_peak = 0;
    if (!job_is_live(job))
        totals->rate = totals->tokens = totals->flops = 0;
}

static void sum_shards(const struct job *job, struct totals *totals) {
    double staleness = 0, weight = 0;
    totals->samples_least = UINT64_MAX;
    for (size_t i = 0; job->placed && i < job->shard_count; i++) {
        const struct wire_shard_job_stats *stats = &job->stats[i];
        staleness += stats->staleness_mean * (double)stats->pushes;
        weight += stats->weight_mean * (double)stats->pushes;
        totals->pushes += stats->pushes;
        totals->staleness_p99 =
            stats->staleness_p99 > totals->staleness_p99 ? stats->staleness_p99 : totals->staleness_p99;
        totals->staleness_max =
            stats->staleness_max > totals->staleness_max ? stats->staleness_max : totals->staleness_max;
        totals->dropped = stats->dropped > totals->dropped ? stats->dropped : totals->dropped;
        totals->samples_least = stats->samples < totals->samples_least ? stats->samples : totals->samples_least;
    }
    if (totals->samples_least == UINT64_MAX)
        totals->samples_least = 0;
    totals->staleness_mean = totals->pushes ? staleness / (double)totals->pushes : 0;
    totals->weight_mean = totals->pushes ? weight / (double)totals->pushes : 0;
}

static struct totals totals_of(const struct coordinator *core, const struct job *job) {
    struct totals totals = {0};
    sum_trainers(core, job, &totals);
    sum_shards(job, &totals);
    return totals;
}

static uint64_t samples_total(const struct job *job) {
    return job->train_samples * (uint64_t)job->config.epochs;
}

/* What is done by the leases, or more where the shards say so. */
static uint64_t samples_applied(const struct job *job, const struct totals *totals) {
    uint64_t done = job->placed ? leases_samples_done(&job->leases) : 0, total = samples_total(job);
    uint64_t seen = totals->samples_least < total ? totals->samples_least : total;
    return done > seen ? done : seen;
}

/* ---- one line about a job */

static json_t *brief(const struct coordinator *core, const struct job *job, const struct totals *totals) {
    const struct evaluation *last = job->evaluation_count ? &job->evaluations[job->evaluation_count - 1] : NULL;
    uint64_t complete = job->placed ? leases_epochs_complete(&job->leases) : 0;
    json_t *row =
        json_pack("{s:o, s:s, s:s, s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id",
                  query_number(job->id), "name", job->name, "state", job_state_name(job), "reason", job->reason,
                  "epoch", query_number(complete), "epochs", (json_int_t)job->config.epochs, "samples_applied",
                  query_number(samples_applied(job, totals)), "samples_total", query_number(samples_total(job)),
                  "samples_per_second", real(totals->rate), "loss", real(totals->loss), "accuracy",
                  last ? real(last->accuracy) : json_null(), "evaluation_loss", last ? real(last->loss) : json_null(),
                  "trainers", query_number(trainers_of(core, job->id)), "submitted_at", query_time(job->submitted_ms),
                  "started_at", query_time(job->started_ms), "finished_at", query_time(job->finished_ms));
    json_t *more =
        json_pack("{s:o, s:o, s:o, s:{s:o, s:o, s:o}, s:o}", "tokens_per_second", known(totals->tokens),
                  "flops_per_second", known(totals->flops), "flops_peak", known(totals->flops_peak), "staleness",
                  "mean", real(totals->staleness_mean), "p99", query_number(totals->staleness_p99), "max",
                  query_number(totals->staleness_max), "weight_mean", real(totals->weight_mean));
    if (row && more)
        json_object_update(row, more);
    json_decref(more);
    return row;
}

json_t *query_jobs(const struct coordinator *core) {
    json_t *rows = json_array();
    for (size_t i = 0; i < core->jobs.count; i++) {
        const struct job *job = core->jobs.items[i];
        struct totals totals = totals_of(core, job);
        json_array_append_new(rows, brief(core, job, &totals));
    }
    return rows;
}

/* ---- parts of the long document */

static json_t *spec_of(const struct job *job) {
    json_t *spec = json_object();
    for (size_t i = 0; i < job->spec->count; i++)
        json_object_set_new(spec, job->spec->entries[i].key, json_string(job->spec->entries[i].value));
    return spec;
}

static json_t *tensors_of(const struct job *job) {
    json_t *rows = json_array();
    for (size_t i = 0; i < job->tensor_count; i++) {
        const struct tensor_spec *tensor = &job->tensors[i];
        json_t *shape = json_array();
        for (uint32_t d = 0; d < tensor->rank; d++)
            json_array_append_new(shape, query_number(tensor->shape[d]));
        uint32_t units = job->blocks.first_of_tensor[i + 1] - job->blocks.first_of_tensor[i];
        json_array_append_new(
            rows, json_pack("{s:s, s:o, s:o}", "name", tensor->name, "shape", shape, "units", query_number(units)));
    }
    return rows;
}

static void put_times(json_t *row, const struct trainer_times *times) {
    json_object_set_new(row, "compute_seconds", real((double)times->compute_ns / 1e9));
    json_object_set_new(row, "communication_seconds", real((double)times->communication_ns / 1e9));
    json_object_set_new(row, "read_seconds", real((double)times->read_ns / 1e9));
    json_object_set_new(row, "copy_seconds", real((double)times->copy_ns / 1e9));
    json_object_set_new(row, "wait_seconds", real((double)times->wait_ns / 1e9));
}

static json_t *recent_of(const struct session *session) {
    const struct trainer_times recent = numbers_recent_times(session);
    json_t *row = json_object();
    put_times(row, &recent);
    return row;
}

json_t *query_running_trainer(const struct coordinator *core, const struct trainer *trainer) {
    const struct session none = {0}, *session = session_find(core, trainer->session);
    const struct member *agent = member_find(core, trainer->agent);
    const char *state = query_trainer_state(trainer, session), *device = query_trainer_device(trainer, session);
    session = session ? session : &none;
    json_t *row =
        json_pack("{s:o, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:n}", "trainer",
                  query_number(trainer->number), "agent", agent ? agent->title : "", "device", device, "state", state,
                  "attempt", query_number(trainer->attempt), "steps", query_number(session->steps), "samples",
                  query_number(session->samples), "samples_per_second", real(session->samples_per_second), "loss",
                  real(session->loss), "transport", session->transport, "staleness_mean", real(session->staleness_mean),
                  "staleness_max", query_number(session->staleness_max), "weight_mean", real(session->weight_mean),
                  "pushes_dropped", query_number(session->pushes_dropped), "pid");
    json_t *more =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "copy_bytes", query_number(session->copy_bytes),
                  "tokens_per_second", known(session->tokens_per_second), "flops_per_second",
                  known(session->flops_per_second), "flops_peak", known(session->flops_peak), "memory_used_bytes",
                  known((double)session->memory_used_bytes), "recent", recent_of(session));
    put_times(row, &session->times);
    json_object_update(row, more);
    json_decref(more);
    return row;
}

static json_t *trainers_rows(const struct coordinator *core, const struct job *job) {
    json_t *rows = json_array();
    for (size_t i = 0; i < core->trainers.count; i++) {
        const struct trainer *trainer = core->trainers.items[i];
        if (trainer->job == job->id && !trainer->gone)
            json_array_append_new(rows, query_running_trainer(core, trainer));
    }
    for (size_t i = 0; i < job->ended_count; i++) {
        const struct ended_trainer *ended = &job->ended[i];
        json_t *row =
            json_pack("{s:o, s:s, s:s, s:s, s:o, s:o, s:o, s:f, s:o, s:n}", "trainer", query_number(ended->trainer),
                      "agent", ended->agent, "device", ended->device, "state", ended->state, "attempt",
                      query_number(ended->attempt), "steps", query_number(ended->steps), "samples",
                      query_number(ended->samples), "samples_per_second", 0.0, "loss", real(ended->loss), "pid");
        put_times(row, &ended->times);
        json_array_append_new(rows, row);
    }
    return rows;
}

static json_t *evaluations_of(const struct job *job) {
    json_t *rows = json_array();
    for (size_t i = 0; i < job->evaluation_count; i++) {
        const struct evaluation *evaluation = &job->evaluations[i];
        json_array_append_new(rows,
                              json_pack("{s:o, s:o, s:o, s:o, s:o}", "epoch", query_number(evaluation->epoch), "loss",
                                        real(evaluation->loss), "accuracy", real(evaluation->accuracy), "predictions",
                                        query_number(evaluation->predictions), "at", query_time(evaluation->at_ms)));
    }
    return rows;
}

static json_t *ledger_of(const struct job *job) {
    json_t *rows = json_array();
    for (size_t i = 0; i < job->ledger_count; i++) {
        const struct ledger_row *ledger = &job->ledger[i];
        json_array_append_new(rows, json_pack("{s:o, s:o, s:o, s:o, s:o}", "shard", query_number(ledger->shard),
                                              "epoch", query_number(ledger->row.epoch + 1), "samples_least",
                                              query_number(ledger->row.samples_least), "samples_most",
                                              query_number(ledger->row.samples_most), "dropped",
                                              query_number(ledger->row.dropped)));
    }
    return rows;
}

static json_t *leases_of(const struct coordinator *core, const struct job *job) {
    static const char *const states[] = {"queued", "out", "lost"};
    json_t *rows = json_array();
    for (size_t i = 0; job->placed && i < job->leases.count; i++) {
        const struct slice *slice = &job->leases.slices[i];
        const struct session *holder = session_find(core, slice->holder);
        json_t *age =
            slice->granted_ms ? json_real((double)(core->now.wall_ms - slice->granted_ms) / 1000) : json_null();
        json_array_append_new(rows, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "lease",
                                              query_number(slice->lease), "epoch", query_number(slice->epoch + 1),
                                              "first", query_number(slice->first), "end", query_number(slice->end),
                                              "holder", holder ? query_number(holder->trainer) : json_null(), "age_s",
                                              age, "state", states[slice->state]));
    }
    return rows;
}

static json_t *shards_of(const struct coordinator *core, const struct job *job) {
    json_t *rows = json_array();
    for (size_t i = 0; job->placed && i < job->shard_count; i++) {
        const struct wire_shard_job_stats *stats = &job->stats[i];
        size_t at = 0;
        const struct member *server = member_of_shard(core, job->shards[i], &at);
        json_array_append_new(
            rows,
            json_pack("{s:o, s:s, s:o, s:o, s:o, s:f, s:o, s:o, s:f}", "shard", query_number(job->shards[i]),
                      "endpoint", server ? server->endpoints[at] : "", "units", query_number(job->slot_units[i]),
                      "bytes", query_number(job->slot_bytes[i]), "pushes", query_number(stats->pushes),
                      "staleness_mean", stats->staleness_mean, "staleness_p99", query_number(stats->staleness_p99),
                      "staleness_max", query_number(stats->staleness_max), "weight_mean", stats->weight_mean));
    }
    return rows;
}

static json_t *eta_of(const struct job *job, const struct totals *totals) {
    uint64_t done = samples_applied(job, totals), total = samples_total(job);
    if (job->phase != JOB_PHASE_RUNNING || totals->rate <= 0)
        return json_null();
    return real((double)(total - done) / totals->rate);
}

static json_t *last_history(const struct job *job) {
    uint64_t next, since = job->history.next > HISTORY_SHOWN ? job->history.next - HISTORY_SHOWN : 0;
    return query_lines(&job->history, false, since, HISTORY_SHOWN, &next);
}

json_t *query_job(const struct coordinator *core, const struct job *job) {
    struct totals totals = totals_of(core, job);
    uint64_t parameters = tensor_total_elements(job->tensors, job->tensor_count), bytes = 0;
    for (size_t i = 0; job->placed && i < job->shard_count; i++)
        bytes += job->slot_bytes[i];
    json_t *document = brief(core, job, &totals);
    json_t *more = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "spec", spec_of(job), "tensors",
        tensors_of(job), "parameters", query_number(parameters), "bytes", query_number(bytes), "trainers",
        trainers_rows(core, job), "evaluations", evaluations_of(job), "slices_taken_over",
        query_number(job->placed ? job->leases.position.taken_over : 0), "restarts", query_number(job->restarts),
        "dropped", query_number(totals.dropped), "ledger", ledger_of(job), "leases", leases_of(core, job), "history",
        last_history(job), "shards", shards_of(core, job), "eta_s", eta_of(job, &totals));
    if (document && more)
        json_object_update(document, more);
    json_decref(more);
    return document;
}
