#include "client/job.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "common/codec.h"

#define AT(field) offsetof(struct job_config, field)

#define MODES "async|ssp|dssp|bsp|backup|rennala|buffered" /* client/consistency.def */
#define CODECS "f32|bf16|f16|int8|onebit|topk"             /* common/codec.def */

static const struct option options[] = {
    {"name", OPTION_STRING, AT(name), "job", 0, 0, NULL, NULL,
     "name of the job: letters, digits, '-', '_' and '.', not a number"},
    {"seed", OPTION_INT, AT(seed), "1", 0, 9e15, NULL, NULL, "seeds the initial values and the order of the samples"},
    {"workers", OPTION_INT, AT(workers), "0", 0, 10000, NULL, "trainers", "trainers at once; 0 takes every free slot"},
    {"model.kind", OPTION_STRING, AT(model), "mlp", 0, 0, NULL, NULL, "model, see `lagoon help models`"},
    {"dataset.kind", OPTION_STRING, AT(dataset), "glyphs", 0, 0, NULL, NULL, "dataset, see `lagoon help datasets`"},
    {"train.batch", OPTION_INT, AT(batch), "32", 1, 65536, NULL, "samples", "samples in one trainer's step"},
    {"train.micro_batch", OPTION_INT, AT(micro_batch), "0", 0, 65536, NULL, "samples",
     "samples that go through the model at once, where a whole batch takes too much memory: a step adds up the "
     "gradients of several such pieces and pushes their mean, as of one; 0, and anything above train.batch: the whole "
     "batch"},
    {"train.epochs", OPTION_INT, AT(epochs), "1", 1, 100000, NULL, NULL, "passes over the training split"},
    {"train.pipeline", OPTION_INT, AT(pipeline), "1", 1, 2, NULL, "steps",
     "how far ahead a trainer asks for parameters: 1: each step computes from what its last push made of them; 2: from "
     "what the push before that did, so that no step waits for the shards, and pushes are one step more stale"},
    {"train.push_pull", OPTION_CHOICE, AT(push_pull), "auto", 0, 0, "auto|yes|no", NULL,
     "in a pipeline of 1: whether pushes bring the parameters back in the same round trip, which takes less time over "
     "a "
     "network and makes pushes more stale, or a pull follows; auto: over TCP they do"},
    {"train.clip", OPTION_CHOICE, AT(clip), "none", 0, 0, "none|tensor|global", NULL,
     "gradient clipping by norm, per tensor or over all of them; `global` waits for the whole backward pass before the "
     "first push"},
    {"train.clip_norm", OPTION_FLOAT, AT(clip_norm), "1", 1e-12, 1e12, NULL, NULL, "largest gradient norm"},
    {"train.threads", OPTION_INT, AT(threads), "0", 0, 1024, NULL, "threads",
     "BLAS threads of a trainer; 0: cores divided by the trainers on the machine"},
    {"train.local_steps", OPTION_INT, AT(local_steps), "1", 1, 100000, NULL, "steps",
     "steps that a trainer takes on its own copy of the parameters before it pushes how far it came; 1: it pushes "
     "every "
     "gradient"},
    {"local.updater.kind", OPTION_STRING, AT(local_updater), "sgd", 0, 0, NULL, NULL,
     "optimizer of local steps, see `lagoon help updaters`; its parameters are local.updater.*"},
    {"local.lr", OPTION_FLOAT, AT(local_rate), "0.01", 0, 1e6, NULL, NULL,
     "learning rate of local steps; lr.base is that of what they lead to, often 0.7 to 1"},
    {"local.weight_decay", OPTION_FLOAT, AT(local_weight_decay), "0", 0, 10, NULL, NULL,
     "decoupled weight decay of local steps"},
    {"updater.kind", OPTION_STRING, AT(updater), "sgd", 0, 0, NULL, NULL,
     "optimizer on the shards, see `lagoon help updaters`"},
    {"weight_decay", OPTION_FLOAT, AT(weight_decay), "0", 0, 10, NULL, NULL,
     "decoupled weight decay, applied on the shard to the current values; not to biases and norms"},
    {"staleness.policy", OPTION_STRING, AT(staleness), "polynomial", 0, 0, NULL, NULL,
     "weight of stale pushes, see `lagoon help policies`"},
    {"lr.schedule", OPTION_CHOICE, AT(schedule), "constant", 0, 0, "constant|cosine|step|inverse-sqrt", NULL,
     "learning rate as a function of the samples applied"},
    {"lr.base", OPTION_FLOAT, AT(learning_rate), "0.01", 0, 1e6, NULL, NULL, "learning rate"},
    {"lr.warmup_samples", OPTION_INT, AT(warmup_samples), "0", 0, 9e15, NULL, "samples",
     "linear warm-up from zero over so many samples"},
    {"lr.total_samples", OPTION_INT, AT(total_samples), "0", 0, 9e15, NULL, "samples",
     "where the cosine ends; 0: epochs times training samples"},
    {"lr.final_factor", OPTION_FLOAT, AT(final_factor), "0.1", 0, 1, NULL, NULL,
     "the cosine ends at this share of the base rate"},
    {"lr.step_samples", OPTION_INT, AT(step_samples), "0", 0, 9e15, NULL, "samples",
     "the step schedule lowers the rate after every so many samples"},
    {"lr.step_factor", OPTION_FLOAT, AT(step_factor), "0.1", 0, 1, NULL, NULL, "and multiplies it by this"},
    {"consistency.mode", OPTION_CHOICE, AT(mode), "async", 0, 0, MODES, NULL,
     "when pulls and pushes may proceed, see `lagoon help modes`"},
    {"consistency.bound", OPTION_INT, AT(gate_bound), "3", 0, 1000000, NULL, "steps",
     "ssp, dssp: how many steps a trainer may be ahead of the slowest one"},
    {"consistency.bound_most", OPTION_INT, AT(gate_bound_most), "15", 0, 1000000, NULL, "steps",
     "dssp: how many the fastest may be granted"},
    {"consistency.pushes", OPTION_INT, AT(gate_pushes), "0", 0, 1000000, NULL, "pushes",
     "backup, rennala, buffered: how many pushes make a step"},
    {"durability", OPTION_CHOICE, AT(durability), "memory", 0, 0, "memory", NULL,
     "what an acknowledgement promises: memory: the push is applied"},
    {"evaluate.every_epochs", OPTION_INT, AT(evaluate_epochs), "1", 0, 100000, NULL, "epochs",
     "evaluate on the test split after every so many epochs; 0: only at the end"},
    {"evaluate.samples", OPTION_INT, AT(evaluate_samples), "0", 0, 9e15, NULL, "samples", "test samples used; 0: all"},
    {"restart.max", OPTION_INT, AT(restarts), "10", 0, 100000, NULL, NULL,
     "crashed trainers restarted over the life of the job before it fails"},
    {"lease.duration", OPTION_DURATION, AT(lease_ms), "5s", 10, 3600000, NULL, "ms",
     "length of a data lease in the trainer's own time"},
    {"push.codec", OPTION_CHOICE, AT(push_codec), "f32", 0, 0, CODECS, NULL,
     "how gradients travel; onebit and topk keep what they do not send and send it later"},
    {"pull.codec", OPTION_CHOICE, AT(pull_codec), "f32", 0, 0, CODECS, NULL,
     "how parameters travel to trainers, rounded to nearest; onebit and topk need pull.delta"},
    {"pull.delta", OPTION_BOOL, AT(pull_delta), "false", 0, 0, NULL, NULL,
     "pulls bring differences to what the trainer holds; a shard keeps a copy of its parameters for each trainer"},
    {"codec.topk", OPTION_FLOAT, AT(topk), "0.01", 1e-6, 0.5, NULL, NULL,
     "share of the elements of each unit that codec topk sends"},
};

const struct option_table job_table = {"job", "a training job: what to train, on which data, and how", options,
                                       sizeof options / sizeof *options, sizeof(struct job_config)};

/* Whoever names a job by its number must not reach another one. */
static enum lg_status check_name(const struct config *config, const char *name, struct lg_error *error) {
    bool fits = name[0] != '\0' && strlen(name) <= 64, number = true;
    for (const char *c = name; *c; c++) {
        fits = fits && (isalnum((unsigned char)*c) || strchr("-_.", *c));
        number = number && isdigit((unsigned char)*c);
    }
    if (fits && !number)
        return LG_OK;
    char place[OPTION_TEXT_BYTES] = "job";
    const struct config_entry *entry = config_find(config, "name");
    if (entry)
        config_place(entry, place, sizeof place);
    return lg_fail(error, LG_INVALID,
                   "%s: name \"%s\" must be 1 to 64 letters, digits, '-', '_' or '.', and not a number", place, name);
}

/* A key's place in the file, or the key alone where it has its default. */
static void place_of(const struct config *config, const char *key, char *text, size_t bytes) {
    const struct config_entry *entry = config_find(config, key);
    if (entry)
        config_place(entry, text, bytes);
    else
        snprintf(text, bytes, "%s", key);
}

static enum lg_status check_pull(const struct config *config, const struct job_config *job, struct lg_error *error) {
    const struct codec *codec = NULL;
    char place[OPTION_TEXT_BYTES];
    enum lg_status status = codec_find(job->pull_codec, &codec, error);
    if (status != LG_OK)
        return status;
    if (codec->changes_only && !job->pull_delta) {
        place_of(config, "pull.codec", place, sizeof place);
        return lg_fail(error, LG_INVALID,
                       "%s: pull.codec \"%s\" sends changes, not parameters: set pull.delta, or use f32, bf16, f16 or "
                       "int8",
                       place, codec->name);
    }
    if (codec->exact && job->pull_delta) {
        place_of(config, "pull.delta", place, sizeof place);
        return lg_fail(error, LG_INVALID,
                       "%s: pull.delta saves nothing with pull.codec \"%s\": choose a smaller codec, or leave it out",
                       place, codec->name);
    }
    return LG_OK;
}

static enum lg_status check_local(const struct config *config, const struct job_config *job, struct lg_error *error) {
    static const char *const keys[] = {"local.updater.kind", "local.lr", "local.weight_decay"};
    char place[OPTION_TEXT_BYTES];
    if (job->local_steps > 1 && job->pipeline > 1) {
        place_of(config, "train.pipeline", place, sizeof place);
        return lg_fail(error, LG_INVALID,
                       "%s: with train.local_steps %lld communication is rare: leave train.pipeline at 1", place,
                       (long long)job->local_steps);
    }
    for (size_t i = 0; job->local_steps == 1 && i < sizeof keys / sizeof *keys; i++) {
        if (option_is_default(&job_table, config, keys[i]))
            continue;
        place_of(config, keys[i], place, sizeof place);
        return lg_fail(error, LG_INVALID, "%s: %s means nothing without local steps: set train.local_steps above 1",
                       place, keys[i]);
    }
    return LG_OK;
}

enum lg_status job_configure(struct config *config, struct job_config *job, struct lg_error *error) {
    enum lg_status status = option_apply(&job_table, "", config, job, error);
    if (status == LG_OK)
        status = check_name(config, job->name, error);
    if (status == LG_OK && strcmp(job->schedule, "step") == 0 && job->step_samples == 0)
        status = lg_fail(error, LG_INVALID, "lr.schedule \"step\" needs lr.step_samples above 0");
    if (status == LG_OK)
        status = check_pull(config, job, error);
    if (status == LG_OK) {
        job->consistency = consistency_find(job->mode);
        status = consistency_check(config, job, error);
    }
    if (status == LG_OK)
        status = check_local(config, job, error);
    return status;
}

enum lg_status job_codecs(struct config *spec, struct job_codecs *out, struct lg_error *error) {
    struct job_config job;
    enum lg_status status = option_apply(&job_table, "", spec, &job, error);
    if (status == LG_OK)
        status = check_pull(spec, &job, error);
    if (status == LG_OK)
        status = codec_find(job.push_codec, &out->push, error);
    if (status == LG_OK)
        status = codec_find(job.pull_codec, &out->pull, error);
    out->pull_delta = job.pull_delta;
    out->topk = job.topk;
    return status;
}
