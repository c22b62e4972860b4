/* Submission: a specification is checked as far as a coordinator can, and becomes a queued job. What belongs to models
 * and datasets passes through: the trainer checks it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"
#include "server/coordinator/core.h"
#include "server/policy.h"
#include "common/updater.h"

enum { WARNINGS_MAX = 8, WARNING_BYTES = 480 };

struct warnings {
    char texts[WARNINGS_MAX][WARNING_BYTES];
    const char *list[WARNINGS_MAX];
    size_t count;
};

static void use_prefix(struct config *config, const char *prefix) {
    for (size_t i = 0; i < config->count; i++)
        if (strncmp(config->entries[i].key, prefix, strlen(prefix)) == 0)
            config->entries[i].used = true;
}

static enum lg_status configure(struct config *spec, struct job *job, struct lg_error *error) {
    const struct option_table *const tables[] = {&job_table};
    const char *const prefixes[] = {""};
    const struct updater *updater = NULL;
    const struct policy *policy;
    double updater_values[UPDATER_PARAMS_MAX], policy_values[POLICY_PARAMS_MAX];
    enum lg_status status = job_configure(spec, &job->config, error);
    if (status == LG_OK)
        status = updater_configure_local(spec, &updater, updater_values, error);
    if (status == LG_OK)
        status = updater_configure(spec, &updater, updater_values, error);
    if (status == LG_OK)
        status = policy_configure(spec, &policy, policy_values, error);
    if (status == LG_OK)
        status = policy_check(policy, spec, job->config.pipeline, error);
    if (status != LG_OK)
        return status;
    job->state_count = updater->state_count + (policy->compensation && policy->compensation->drift) +
                       consistency_has(job->config.consistency, CONSISTENCY_GATHERS);
    use_prefix(spec, "model.");
    use_prefix(spec, "dataset.");
    return option_check_unused(spec, tables, prefixes, 1, error);
}

enum lg_status job_new(struct config *spec, struct job **out, struct lg_error *error) {
    struct job *job = calloc(1, sizeof *job);
    if (!job) {
        config_free(spec);
        return lg_fail(error, LG_NO_MEMORY, "no memory for one more job");
    }
    job->spec = spec;
    job->history.limit = CORE_HISTORY_MAX;
    job->log.limit = CORE_LOG_MAX;
    enum lg_status status = configure(spec, job, error);
    if (status != LG_OK) {
        job_free(job);
        return status;
    }
    core_copy(job->name, sizeof job->name, job->config.name);
    *out = job;
    return LG_OK;
}

/* ---- what is worth a remark */

static void warn(struct warnings *warnings, const char *format, ...) LG_PRINTF(2, 3);
static void warn(struct warnings *warnings, const char *format, ...) {
    if (warnings->count == WARNINGS_MAX)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(warnings->texts[warnings->count], WARNING_BYTES, format, args);
    va_end(args);
    warnings->list[warnings->count] = warnings->texts[warnings->count];
    warnings->count++;
}

/* Slots that there are. */
static size_t look_at_cluster(const struct coordinator *core, const struct job *job, struct warnings *warnings) {
    size_t servers = 0, agents = 0, slots = 0;
    for (size_t i = 0; i < core->members.count; i++) {
        const struct member *member = core->members.items[i];
        if (!member_is_alive(member))
            continue;
        servers += member->kind == WIRE_MEMBER_SERVER;
        agents += member->kind == WIRE_MEMBER_AGENT;
        slots += member->slots;
    }
    if (servers == 0)
        warn(warnings, "no server is registered: the job waits until a lagoon-server comes");
    if (agents == 0)
        warn(warnings, "no worker is registered: the job waits until a lagoon-worker comes");
    else if ((size_t)job->config.workers > slots)
        warn(warnings, "workers: %" PRId64 " trainers are wanted, but there are %zu slots: it runs with what there is",
             job->config.workers, slots);
    return slots;
}

/* The updater's heavy-ball momentum; 0: it has none. */
static double momentum_of(struct config *spec) {
    const struct updater *updater = NULL;
    double values[UPDATER_PARAMS_MAX];
    if (updater_configure(spec, &updater, values, NULL) == LG_OK)
        for (size_t i = 0; i < updater->param_count; i++)
            if (strcmp(updater->params[i].name, "beta") == 0)
                return values[i];
    return 0;
}

/* Asynchrony adds momentum of its own. Where much momentum, many workers and pushes that count fully however stale
 * they are come together, experiment E2 collapsed at rates that are fine without staleness (docs/staleness.md). */
static void look_at_staleness(const struct job *job, size_t workers, struct warnings *warnings) {
    enum { WORKERS_MANY = 8 };
    static const double momentum_much = 0.8, weight_much = 0.5;
    const struct policy *policy = NULL;
    double values[POLICY_PARAMS_MAX], momentum = momentum_of(job->spec);
    if (consistency_has(job->config.consistency, CONSISTENCY_ROUNDS) || workers < WORKERS_MANY ||
        momentum < momentum_much || policy_configure(job->spec, &policy, values, NULL) != LG_OK)
        return;
    const struct policy_moment moment = {.staleness = workers - 1, .concurrency = (uint32_t)workers};
    const double weight = (double)policy->weight(values, &moment);
    if (weight < weight_much || (policy->compensation && policy->compensation->drift))
        return;
    warn(warnings,
         "updater.beta %g on %zu workers with staleness.policy \"%s\", which gives a push that is %zu updates old a "
         "weight of "
         "%.2f: such jobs collapse at learning rates that are fine for one worker. Lower updater.beta to 0.5 or choose "
         "policy polynomial. To see it: lagoon sim configs/experiments/collapse.yaml sim.workers=%zu updater.beta=%g "
         "staleness.policy=%s",
         momentum, workers, policy->name, workers - 1, weight, workers, momentum, policy->name);
}

static void look_at_training(const struct job *job, struct warnings *warnings) {
    const struct job_config *config = &job->config;
    if (strcmp(config->schedule, "cosine") == 0 && config->warmup_samples > 0 && config->total_samples > 0 &&
        config->warmup_samples >= config->total_samples)
        warn(warnings, "lr.warmup_samples is not below lr.total_samples: the learning rate never reaches its base");
    if (config->learning_rate == 0)
        warn(warnings, "lr.base is 0: the parameters stay as they are");
    if (config->evaluate_epochs > config->epochs)
        warn(warnings, "evaluate.every_epochs is above train.epochs: evaluated at the end only");
}

/* ---- submission */

static struct job *find_repeat(const struct coordinator *core, const struct coordinator_input *input) {
    for (size_t i = 0; input->message->request != 0 && i < core->jobs.count; i++) {
        struct job *job = core->jobs.items[i];
        if (job->submit_route == input->route && job->submit_request == input->message->request)
            return job;
    }
    return NULL;
}

static enum lg_status check_room(const struct coordinator *core, const char *name, struct lg_error *error) {
    size_t live = 0;
    for (size_t i = 0; i < core->jobs.count; i++) {
        const struct job *job = core->jobs.items[i];
        live += job_is_live(job);
        if (job_is_live(job) && strcmp(job->name, name) == 0)
            return lg_fail(error, LG_EXISTS,
                           "job %" PRIu64
                           " is called \"%s\" already and is %s; choose another name, or cancel it first",
                           job->id, name, job_state_name(job));
    }
    if (live >= CORE_JOBS_LIVE_MAX)
        return lg_fail(error, LG_NO_CREDIT, "%zu jobs are queued or running, the most there may be; wait for some",
                       live);
    return LG_OK;
}

/* "mlp-3" where no name is given. */
static enum lg_status name_job(const struct coordinator *core, struct config *spec, struct lg_error *error) {
    char name[64];
    const char *model = config_text(spec, "model.kind", "mlp");
    if (config_find(spec, "name"))
        return LG_OK;
    snprintf(name, sizeof name, "%.40s-%" PRIu64, model, core->next_job);
    return config_set(spec, "name", name, "default", error);
}

static enum lg_status enqueue(struct coordinator *core, const struct coordinator_input *input, struct job **out,
                              struct lg_error *error) {
    const struct wire_submit *submit = &input->message->submit;
    struct config *spec = NULL;
    struct job *job = NULL;
    enum lg_status status = wire_pairs_to_config(submit->spec, submit->spec_count, &spec, error);
    if (status != LG_OK)
        return status;
    status = name_job(core, spec, error);
    if (status != LG_OK) {
        config_free(spec);
        return status;
    }
    status = job_new(spec, &job, error);
    if (status == LG_OK)
        status = check_room(core, job->name, error);
    if (status == LG_OK && !list_add(&core->jobs, job))
        status = lg_fail(error, LG_NO_MEMORY, "no memory for one more job");
    if (status != LG_OK) {
        job_free(job);
        return status;
    }
    job->id = core->next_job++;
    core->counters_changed = true;
    job->external_init = submit->external_init;
    job->submit_route = input->route;
    job->submit_request = input->message->request;
    job->submitted_ms = core->now.wall_ms;
    job->changed = true;
    *out = job;
    return LG_OK;
}

static void record(struct coordinator *core, struct job *job, const struct warnings *warnings) {
    char workers[32] = "every free slot";
    if (job->config.workers > 0)
        snprintf(workers, sizeof workers, "%" PRId64 " worker%s", job->config.workers,
                 job->config.workers == 1 ? "" : "s");
    history_add(core, job, "submitted: %s on %s, %" PRId64 " epoch%s, batch %" PRId64 ", %s, for %s%s",
                job->config.model, job->config.dataset, job->config.epochs, job->config.epochs == 1 ? "" : "s",
                job->config.batch, job->config.updater, workers,
                job->external_init ? "; initial values come from a file" : "");
    for (size_t i = 0; i < warnings->count; i++)
        history_add(core, job, "warning: %s", warnings->list[i]);
}

void jobs_submit(struct coordinator *core, const struct coordinator_input *input) {
    struct lg_error error = {0};
    struct warnings warnings = {.count = 0};
    struct job *job = find_repeat(core, input);
    enum lg_status status = LG_OK;
    if (!job) {
        status = enqueue(core, input, &job, &error);
        if (status == LG_OK) {
            size_t slots = look_at_cluster(core, job, &warnings);
            look_at_staleness(job, job->config.workers > 0 ? (size_t)job->config.workers : slots, &warnings);
            look_at_training(job, &warnings);
            record(core, job, &warnings);
        }
    }
    struct wire_message reply = {.kind = WIRE_SUBMIT_REPLY, .request = input->message->request};
    reply.submit_reply = (struct wire_submit_reply){.status = (uint32_t)status,
                                                    .reason = status == LG_OK ? "" : error.message,
                                                    .job = job ? job->id : 0,
                                                    .name = job ? job->name : "",
                                                    .warnings = warnings.list,
                                                    .warning_count = warnings.count};
    core_send(core, input->route, &reply);
}
