#include "server/coordinator/coordinator.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/coordinator/core.h"

/* ---- what the other files use */

bool list_add(struct list *list, void *item) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        void **items = realloc(list->items, capacity * sizeof *items);
        if (!items)
            return false;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
    return true;
}

void list_remove(struct list *list, const void *item) {
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i] != item)
            list->items[kept++] = list->items[i];
    list->count = kept;
}

void core_send(struct coordinator *core, uint64_t route, const struct wire_message *message) {
    if (route != 0)
        core->sink.send(core->sink.context, route, message);
}

void core_ack(struct coordinator *core, const struct coordinator_input *input, enum lg_status status,
              const char *format, ...) {
    char reason[CORE_REASON_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    struct wire_message reply = {.kind = WIRE_ACK, .request = input->message->request};
    reply.ack = (struct wire_ack){(uint32_t)status, reason};
    core_send(core, input->route, &reply);
}

void core_put(struct coordinator *core, enum store_table table, const void *row) {
    core->sink.store(core->sink.context, &(struct store_change){table, false, row});
}

void core_remove(struct coordinator *core, enum store_table table, const void *row) {
    core->sink.store(core->sink.context, &(struct store_change){table, true, row});
}

int64_t core_since_ms(const struct coordinator *core, int64_t then_ns) {
    return (core->now.now_ns - then_ns) / 1000000;
}

void core_copy(char *to, size_t bytes, const char *from) {
    size_t length = strnlen(from, bytes - 1);
    while (length > 0 && ((unsigned char)from[length] & 0xC0) == 0x80) /* within a character */
        length--;
    memcpy(to, from, length);
    to[length] = '\0';
}

uint64_t core_random(struct coordinator *core) {
    uint64_t number;
    do
        number = core->config.random(core->config.random_context);
    while (number == 0);
    return number;
}

/* ---- life */

enum lg_status coordinator_new(const struct coordinator_config *config, const struct coordinator_sink *sink,
                               struct coordinator **out, struct lg_error *error) {
    struct coordinator *core = calloc(1, sizeof *core);
    if (!core)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the coordinator");
    core->config = *config;
    if (core->config.sessions_per_job_max == 0)
        core->config.sessions_per_job_max = CORE_SESSIONS_PER_JOB_MAX;
    core->sink = *sink;
    core->next_member = core->next_job = core->next_trainer = 1;
    /* Answers to an earlier coordinator's commands must not be taken for answers to ours. */
    core->next_task = core_random(core) >> 16;
    *out = core;
    return LG_OK;
}

void coordinator_free(struct coordinator *core) {
    if (!core)
        return;
    for (size_t i = 0; i < core->members.count; i++)
        member_free(core->members.items[i]);
    for (size_t i = 0; i < core->jobs.count; i++)
        job_free(core->jobs.items[i]);
    for (size_t i = 0; i < core->tasks.count; i++)
        task_free(core->tasks.items[i]);
    for (size_t i = 0; i < core->trainers.count; i++)
        free(core->trainers.items[i]);
    for (size_t i = 0; i < core->sessions.count; i++)
        free(core->sessions.items[i]);
    struct list *lists[] = {&core->members, &core->jobs, &core->trainers, &core->sessions, &core->tasks};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        free(lists[i]->items);
    free(core);
}

void coordinator_set_addresses(struct coordinator *core, const char *address, const char *http) {
    core->config.address = address;
    core->config.http = http;
}

/* ---- rows of what changed */

static void put_counters(struct coordinator *core) {
    const struct store_counter counters[] = {{"job", core->next_job},
                                             {"member", core->next_member},
                                             {"shard", core->next_shard},
                                             {"trainer", core->next_trainer}};
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
        core_put(core, STORE_TABLE_COUNTER, &counters[i]);
    core->counters_changed = false;
}

struct leases_context {
    struct coordinator *core;
    uint64_t job;
};

static void put_position(void *context, const struct leases_position *position) {
    const struct leases_context *of = context;
    core_put(of->core, STORE_TABLE_POSITION,
             &(struct store_position){of->job, position->epoch, position->first, position->next_lease,
                                      position->evaluated, position->evaluating, position->evaluate_lease,
                                      position->evaluate_fence, position->evaluate_holder, position->evaluate_request,
                                      position->taken_over});
}

static void put_slice(void *context, const struct slice *slice) {
    const struct leases_context *of = context;
    core_put(of->core, STORE_TABLE_SLICE,
             &(struct store_slice){of->job,
                                   slice->lease,
                                   slice->fence,
                                   slice->epoch,
                                   slice->first,
                                   slice->end,
                                   slice->state,
                                   slice->holder,
                                   slice->request,
                                   (uint64_t)slice->granted_ms,
                                   {slice->cuts, slice->cut_count * sizeof *slice->cuts}});
}

static void remove_slice(void *context, uint64_t lease) {
    const struct leases_context *of = context;
    core_remove(of->core, STORE_TABLE_SLICE, &(struct store_slice){.job = of->job, .lease = lease});
}

static void put_job_changes(struct coordinator *core, struct job *job) {
    if (job->changed)
        job_put(core, job);
    if (job->definition_changed)
        define_put(core, job);
    job->changed = job->definition_changed = false;
    if (job->placed)
        leases_changes(&job->leases, &(struct leases_visitor){&(struct leases_context){core, job->id}, put_position,
                                                              put_slice, remove_slice});
}

#define PUT_CHANGED(list, type, put)                                                                                   \
    for (size_t i = 0; i < (list).count; i++) {                                                                        \
        struct type *item = (list).items[i];                                                                           \
        if (item->changed)                                                                                             \
            put(core, item);                                                                                           \
        item->changed = false;                                                                                         \
    }

static void put_changes(struct coordinator *core) {
    if (core->counters_changed)
        put_counters(core);
    PUT_CHANGED(core->members, member, member_put)
    for (size_t i = 0; i < core->jobs.count; i++)
        put_job_changes(core, core->jobs.items[i]);
    PUT_CHANGED(core->trainers, trainer, trainer_put)
    PUT_CHANGED(core->sessions, session, session_put)
}

/* ---- inputs */

static void refuse(struct coordinator *core, uint64_t route, uint64_t request, enum lg_status status,
                   const char *reason) {
    struct wire_message reply = {.kind = WIRE_ERROR, .request = request};
    reply.error = (struct wire_error){.status = (uint32_t)status, .reason = reason};
    core_send(core, route, &reply);
}

void coordinator_refuse(struct coordinator *core, uint64_t route, uint64_t request, const struct lg_error *error) {
    refuse(core, route, request, LG_MALFORMED, error->message);
}

static void answer_query(struct coordinator *core, const struct coordinator_input *input) {
    struct lg_error error = {0};
    uint64_t next = 0;
    char *document = coordinator_query(core, &input->message->query, &next, &error);
    struct wire_message reply = {.kind = WIRE_QUERY_REPLY, .request = input->message->request};
    reply.query_reply = (struct wire_query_reply){document ? LG_OK : (uint32_t)error.status, error.message, next};
    if (document)
        reply.document = (struct wire_bytes){document, strlen(document)};
    core_send(core, input->route, &reply);
    free(document);
}

static void dispatch(struct coordinator *core, const struct coordinator_input *input) {
    const struct wire_message *message = input->message;
    switch (message->kind) {
    case WIRE_REGISTER:
        members_register(core, input);
        break;
    case WIRE_BEAT:
        members_beat(core, input);
        break;
    case WIRE_TRAINER_EXIT:
        trainers_exit(core, input);
        break;
    case WIRE_LOG:
        history_log(core, input);
        break;
    case WIRE_JOIN:
        sessions_join(core, input);
        break;
    case WIRE_LEASE_REQUEST:
        grants_request(core, input);
        break;
    case WIRE_LEASE_DONE:
        grants_done(core, input);
        break;
    case WIRE_EVAL_REPORT:
        grants_evaluation(core, input);
        break;
    case WIRE_LEAVE:
        sessions_leave(core, input);
        break;
    case WIRE_TRAINER_BEAT:
        sessions_beat(core, input);
        break;
    case WIRE_SUBMIT:
        jobs_submit(core, input);
        break;
    case WIRE_CANCEL:
        jobs_cancel(core, input);
        break;
    case WIRE_QUERY:
        answer_query(core, input);
        break;
    case WIRE_ACK:
    case WIRE_ERROR:
    case WIRE_MARKS_REPLY:
    case WIRE_LEDGER_REPLY:
        if (message->request >= CORE_TRAINER_REQUEST)
            trainers_answer(core, input);
        else
            tasks_answer(core, input);
        break;
    default: {
        char reason[96];
        snprintf(reason, sizeof reason, "a coordinator does not take %s", wire_kind_name(message->kind));
        refuse(core, input->route, message->request, LG_UNSUPPORTED, reason);
    }
    }
}

void coordinator_receive(struct coordinator *core, const struct coordinator_input *input) {
    core->now = input->now;
    dispatch(core, input);
    tasks_sweep(core);
    trainers_sweep(core);
    put_changes(core);
}

static void update_metrics(struct coordinator *core) {
    static const char *const kinds[] = {"server", "agent"};
    int64_t alive[2] = {0};
    if (!core->config.metrics)
        return;
    for (size_t i = 0; i < core->members.count; i++) {
        const struct member *member = core->members.items[i];
        alive[member->kind == WIRE_MEMBER_AGENT] += member_is_alive(member);
    }
    for (int i = 0; i < 2; i++)
        metric_set(metrics_cell(core->config.metrics, METRIC_MEMBERS, &kinds[i]), alive[i]);
    static const char *const trainer = "trainer";
    metric_set(metrics_cell(core->config.metrics, METRIC_MEMBERS, &trainer), (int64_t)core->trainers.count);
    static const char *const states[] = {"queued",  "defining", "initialising", "running",  "evaluating",
                                         "waiting", "finished", "failed",       "cancelled"};
    for (size_t s = 0; s < sizeof states / sizeof *states; s++) {
        int64_t count = 0;
        for (size_t i = 0; i < core->jobs.count; i++)
            count += strcmp(job_state_name(core->jobs.items[i]), states[s]) == 0;
        metric_set(metrics_cell(core->config.metrics, METRIC_JOBS, &states[s]), count);
    }
}

static void forgive(int64_t *then_ns, int64_t gap_ns, int64_t now_ns) {
    *then_ns = *then_ns + gap_ns < now_ns ? *then_ns + gap_ns : now_ns;
}

/* While the coordinator was stopped it could hear nobody: that was its own silence, not theirs. */
static void forgive_own_stop(struct coordinator *core) {
    int64_t gap_ns = core->now.now_ns - core->ticked_ns;
    core->ticked_ns = core->now.now_ns;
    if (gap_ns < CORE_OWN_STOP_MS * INT64_C(1000000))
        return;
    log_warn("own-stop", "the coordinator did not run for %.1f s; nobody's silence in that time counts",
             (double)gap_ns / 1e9);
    for (size_t i = 0; i < core->members.count; i++)
        forgive(&((struct member *)core->members.items[i])->heard_ns, gap_ns, core->now.now_ns);
    for (size_t i = 0; i < core->sessions.count; i++) {
        struct session *session = core->sessions.items[i];
        forgive(&session->heard_ns, gap_ns, core->now.now_ns);
        forgive(&session->step_ns, gap_ns, core->now.now_ns);
    }
}

void coordinator_tick(struct coordinator *core, struct coordinator_moment now) {
    core->now = now;
    forgive_own_stop(core);
    members_tick(core);
    sessions_tick(core);
    jobs_tick(core);
    trainers_tick(core);
    tasks_tick(core);
    tasks_sweep(core);
    trainers_sweep(core);
    update_metrics(core);
    put_changes(core);
}
