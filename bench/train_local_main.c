/* Trains any model on any dataset in this one process, with no server: the baseline that a worker and a shard on the
 * same cores are measured against. The step is the trainer's own: read a batch, forward, backward, then the update,
 * which here is a plain loop over the parameters. The clock runs over all of that, and not over evaluation.
 *
 *   build/release/bench/train_local --dataset.kind idx --dataset.path ../shared/data/mnist --model.kind cnn --epochs 3
 */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/clock.h"
#include "common/option.h"
#include "common/random.h"
#include "gpu/cpu/cpu.h"
#include "worker/model.h"

struct settings {
    int64_t batch, epochs, steps, threads, seed, staleness, evaluate;
    char updater[OPTION_TEXT_BYTES], device[OPTION_TEXT_BYTES], schedule[OPTION_TEXT_BYTES];
    double lr, momentum, beta1, beta2, epsilon, weight_decay, warmup, lr_final;
};

#define ENTRY(key_, type_, fallback_, ...)                                                                             \
    { .key = #key_, .type = type_, .offset = offsetof(struct settings, key_), .fallback = fallback_, __VA_ARGS__ }
static const struct option options[] = {
    ENTRY(batch, OPTION_INT, "64", .least = 1, .most = 1 << 20, .unit = "samples", .help = "samples per step"),
    ENTRY(epochs, OPTION_INT, "1", .least = 1, .most = 1 << 20, .help = "passes over the training split"),
    ENTRY(steps, OPTION_INT, "0", .least = 0, .most = 1e12, .help = "steps at most; 0 sets no limit"),
    ENTRY(evaluate, OPTION_INT, "1", .least = 0, .most = 1 << 20,
          .help = "epochs between evaluations; 0 evaluates at the end only"),
    ENTRY(updater, OPTION_CHOICE, "momentum", .choices = "sgd|momentum|adam|adamw", .help = "what applies gradients"),
    ENTRY(lr, OPTION_FLOAT, "0.01", .least = 0, .most = 1e6, .help = "learning rate"),
    ENTRY(schedule, OPTION_CHOICE, "constant", .choices = "constant|cosine", .help = "learning rate after the warm-up"),
    ENTRY(warmup, OPTION_FLOAT, "0", .least = 0, .most = 1, .help = "part of the run over which the rate rises"),
    ENTRY(lr_final, OPTION_FLOAT, "0.1", .least = 0, .most = 1, .help = "where cosine ends, as a part of the rate"),
    ENTRY(momentum, OPTION_FLOAT, "0.9", .least = 0, .most = 1, .help = "of the momentum updater"),
    ENTRY(beta1, OPTION_FLOAT, "0.9", .least = 0, .most = 1, .help = "adam's first decay"),
    ENTRY(beta2, OPTION_FLOAT, "0.999", .least = 0, .most = 1, .help = "adam's second decay"),
    ENTRY(epsilon, OPTION_FLOAT, "1e-8", .least = 0, .most = 1, .help = "adam's epsilon"),
    ENTRY(weight_decay, OPTION_FLOAT, "0", .least = 0, .most = 1e3, .help = "decoupled, of adamw"),
    ENTRY(staleness, OPTION_INT, "0", .least = 0, .most = 64,
          .help = "applies each gradient this many updates late, as asynchronous workers do"),
    ENTRY(device, OPTION_STRING, "cpu", .help = "auto, cpu or cuda:N"),
    ENTRY(threads, OPTION_INT, "1", .least = 0, .most = 256, .help = "threads that compute; 0 takes all cores"),
    ENTRY(seed, OPTION_INT, "1", .least = 0, .most = 9007199254740992.0, .help = "of initial values and sample order"),
};
#undef ENTRY

static const struct option_table table = {
    .name = "train_local",
    .summary = "train without a server",
    .options = options,
    .count = sizeof options / sizeof *options,
    .config_bytes = sizeof(struct settings),
};

struct training {
    struct settings settings;
    struct dataset *dataset;
    struct device *device;
    struct model *model;
    struct batch batch;
    uint64_t *order, *in_order; /* sample numbers: shuffled, and 0, 1, 2, ... */
    float *first, *second;      /* momentum, or adam's moments [elements] */
    float *late;                /* ring of gradients [staleness][elements] */
    uint64_t step, steps_total;
    double seconds; /* in steps */
};

/* ---- updates: algorithms as in docs, one tensor [n] at a time. */

CPU_BODY momentum_body(size_t n, float lr, float beta, const float *g, float *m, float *w) {
    for (size_t i = 0; i < n; i++) {
        m[i] = beta * m[i] + g[i];
        w[i] -= lr * m[i];
    }
}
CPU_VARIANTS(momentum, (size_t n, float lr, float beta, const float *g, float *restrict m, float *restrict w),
             (n, lr, beta, g, m, w))

struct adam {
    float lr, beta1, beta2, epsilon, decay; /* lr / (1 - beta1^t); epsilon and the root scaled for 1 - beta2^t */
    float root;
};

CPU_BODY adam_step_body(size_t n, const struct adam *a, const float *g, float *m, float *v, float *w) {
    float lr = a->lr, beta1 = a->beta1, beta2 = a->beta2, epsilon = a->epsilon, keep = 1 - a->decay, root = a->root;
    for (size_t i = 0; i < n; i++) {
        m[i] = beta1 * m[i] + (1 - beta1) * g[i];
        v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
        w[i] = keep * w[i] - lr * m[i] / (sqrtf(v[i]) * root + epsilon);
    }
}
CPU_VARIANTS(adam_step,
             (size_t n, const struct adam *a, const float *g, float *restrict m, float *restrict v, float *restrict w),
             (n, a, g, m, v, w))

/* Warm-up from 0 to lr, then constant or a cosine down to lr * lr_final. */
static double rate(const struct training *t) {
    const struct settings *s = &t->settings;
    double done = (double)t->step / (double)t->steps_total;
    if (done < s->warmup)
        return s->lr * ((double)t->step + 1) / (s->warmup * (double)t->steps_total + 1);
    if (strcmp(s->schedule, "constant") == 0)
        return s->lr;
    double part = (done - s->warmup) / (1 - s->warmup);
    return s->lr * (s->lr_final + (1 - s->lr_final) * 0.5 * (1 + cos(3.14159265358979 * part)));
}

static void update_tensor(struct training *t, const struct tensor_spec *spec, size_t offset, const float *gradients) {
    const struct settings *s = &t->settings;
    size_t n = tensor_elements(spec);
    float lr = (float)(rate(t) * (double)spec->lr_factor), *w = t->model->parameters + offset;
    const float *g = gradients + offset;
    if (strcmp(s->updater, "sgd") == 0) {
        momentum(n, lr, 0, g, t->first + offset, w);
        return;
    }
    if (strcmp(s->updater, "momentum") == 0) {
        momentum(n, lr, (float)s->momentum, g, t->first + offset, w);
        return;
    }
    bool decays = strcmp(s->updater, "adamw") == 0 && !spec->no_weight_decay;
    double updates = (double)t->step + 1;
    struct adam a = {.lr = (float)((double)lr / (1 - pow(s->beta1, updates))),
                     .beta1 = (float)s->beta1,
                     .beta2 = (float)s->beta2,
                     .epsilon = (float)s->epsilon,
                     .decay = decays ? lr * (float)s->weight_decay : 0,
                     .root = (float)(1 / sqrt(1 - pow(s->beta2, updates)))};
    adam_step(n, &a, g, t->first + offset, t->second + offset, w);
}

/* The gradients to apply now: those of this step, or with staleness those of an earlier one (NULL: none yet). */
static const float *gradients_due(struct training *t) {
    uint64_t delay = (uint64_t)t->settings.staleness, n = t->model->elements;
    if (delay == 0)
        return t->model->gradients;
    float *slot = t->late + t->step % (delay + 1) * n, *due = t->late + (t->step + 1) % (delay + 1) * n;
    memcpy(slot, t->model->gradients, n * sizeof *slot);
    return t->step < delay ? NULL : due;
}

static void update(struct training *t) {
    const float *gradients = gradients_due(t);
    for (size_t i = 0, offset = 0; gradients && i < t->model->tensor_count; i++) {
        update_tensor(t, &t->model->tensors[i], offset, gradients);
        offset += tensor_elements(&t->model->tensors[i]);
    }
    t->step++;
}

/* ---- training */

static enum lg_status train_step(struct training *t, uint64_t epoch, uint64_t first, uint32_t count,
                                 struct model_result *sums, struct lg_error *error) {
    struct model_result result;
    enum lg_status status = dataset_read(t->dataset, DATASET_TRAIN, epoch, t->order + first, count, &t->batch, error);
    if (status == LG_OK)
        status = model_forward(t->model, &t->batch, &result, error);
    if (status == LG_OK)
        status = model_backward(t->model, NULL, NULL, error);
    if (status != LG_OK)
        return status;
    update(t);
    sums->loss_sum += result.loss_sum;
    sums->predictions += result.predictions;
    sums->correct += result.correct;
    return LG_OK;
}

static void shuffle(struct training *t, uint64_t epoch) {
    struct random random;
    random_init_stream(&random, (uint64_t)t->settings.seed, epoch);
    uint64_t n = t->dataset->info.train_samples;
    for (uint64_t i = 0; i < n; i++)
        t->order[i] = i;
    for (uint64_t i = n; i > 1; i--) {
        uint64_t j = random_below(&random, i), kept = t->order[i - 1];
        t->order[i - 1] = t->order[j];
        t->order[j] = kept;
    }
}

static enum lg_status evaluate(struct training *t, struct model_result *sums, struct lg_error *error) {
    uint64_t n = t->dataset->info.test_samples, batch = (uint64_t)t->settings.batch;
    *sums = (struct model_result){0};
    for (uint64_t first = 0; first < n; first += batch) {
        struct model_result result;
        uint32_t count = (uint32_t)(n - first < batch ? n - first : batch);
        enum lg_status status = dataset_read(t->dataset, DATASET_TEST, 0, t->in_order + first, count, &t->batch, error);
        if (status == LG_OK)
            status = model_forward(t->model, &t->batch, &result, error);
        if (status != LG_OK)
            return status;
        sums->loss_sum += result.loss_sum;
        sums->predictions += result.predictions;
        sums->correct += result.correct;
    }
    return LG_OK;
}

static void print_result(const char *what, const struct model_result *r) {
    double n = r->predictions ? (double)r->predictions : 1;
    printf("  %s loss %.4f accuracy %.2f %%", what, r->loss_sum / n, 100 * (double)r->correct / n);
}

static enum lg_status train_epoch(struct training *t, uint64_t epoch, struct lg_error *error) {
    uint64_t n = t->dataset->info.train_samples, batch = (uint64_t)t->settings.batch, first = 0;
    struct model_result sums = {0};
    shuffle(t, epoch);
    double start = clock_seconds();
    for (; first < n && t->step < t->steps_total; first += batch) {
        uint32_t count = (uint32_t)(n - first < batch ? n - first : batch);
        enum lg_status status = train_step(t, epoch, first, count, &sums, error);
        if (status != LG_OK)
            return status;
    }
    double seconds = clock_seconds() - start, samples = (double)(first < n ? first : n);
    t->seconds += seconds;
    printf("epoch %llu", (unsigned long long)epoch + 1);
    print_result("train", &sums);
    printf("  %.0f samples/s  %.0f predictions/s", samples / seconds, (double)sums.predictions / seconds);
    bool last = t->step >= t->steps_total, due = t->settings.evaluate && (int64_t)epoch % t->settings.evaluate == 0;
    enum lg_status status = LG_OK;
    if (last || due) {
        status = evaluate(t, &sums, error);
        if (status == LG_OK)
            print_result("test", &sums);
    }
    putchar('\n');
    fflush(stdout);
    return status;
}

static enum lg_status run(struct training *t, struct lg_error *error) {
    uint64_t n = t->dataset->info.train_samples, batch = (uint64_t)t->settings.batch;
    t->steps_total = (uint64_t)t->settings.epochs * ((n + batch - 1) / batch);
    if (t->settings.steps && (uint64_t)t->settings.steps < t->steps_total)
        t->steps_total = (uint64_t)t->settings.steps;
    printf("%s on %s: %llu parameters, %llu samples, batch %llu, %llu steps, %s\n", t->model->kind->name,
           t->dataset->kind->name, (unsigned long long)t->model->elements, (unsigned long long)n,
           (unsigned long long)batch, (unsigned long long)t->steps_total, t->device->name);
    enum lg_status status = LG_OK;
    for (uint64_t epoch = 0; status == LG_OK && t->step < t->steps_total; epoch++)
        status = train_epoch(t, epoch, error);
    if (status == LG_OK)
        printf("%.1f s of training, %.0f samples/s\n", t->seconds,
               (double)(t->steps_total * batch) / (t->seconds > 0 ? t->seconds : 1));
    return status;
}

/* ---- starting */

static enum lg_status prepare(struct training *t, struct config *config, struct lg_error *error) {
    enum lg_status status = option_apply(&table, "", config, &t->settings, error);
    if (status == LG_OK)
        status = dataset_open(config, &t->dataset, error);
    if (status == LG_OK)
        status = device_open(t->settings.device, (unsigned)t->settings.threads, &t->device, error);
    if (status == LG_OK)
        status = model_create(config, &t->dataset->info, t->device, (uint32_t)t->settings.batch, &t->model, error);
    if (status != LG_OK)
        return status;
    if (!t->device->host_memory)
        return lg_fail(error, LG_UNSUPPORTED, "the update runs on the host: use \"--device cpu\"");
    size_t n = t->model->elements, test = t->dataset->info.test_samples;
    t->order = malloc((t->dataset->info.train_samples + 1) * sizeof *t->order);
    t->in_order = malloc((test + 1) * sizeof *t->in_order);
    t->first = calloc(n, sizeof *t->first);
    t->second = calloc(n, sizeof *t->second);
    t->late = calloc(n * ((size_t)t->settings.staleness + 1), sizeof *t->late);
    if (!t->order || !t->in_order || !t->first || !t->second || !t->late)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the updater's state");
    for (uint64_t i = 0; i < test; i++)
        t->in_order[i] = i;
    model_initialise(t->model, (uint64_t)t->settings.seed, t->model->parameters);
    return LG_OK;
}

static void finish(struct training *t) {
    model_destroy(t->model);
    device_close(t->device);
    dataset_close(t->dataset);
    batch_deinit(&t->batch);
    free(t->order), free(t->in_order), free(t->first), free(t->second), free(t->late);
}

/* The value of `--key value` or `--key=value`, ahead of the real parsing: kinds decide which flags there are. */
static const char *peek(int argc, char **argv, const char *flag, const char *fallback) {
    size_t bytes = strlen(flag);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], flag, bytes) == 0 && argv[i][bytes] == '=')
            return argv[i] + bytes + 1;
        if (strcmp(argv[i], flag) == 0 && i + 1 < argc)
            return argv[i + 1];
    }
    return fallback;
}

static void print_help(const struct option_table *const *tables, const char *const *prefixes, size_t count) {
    puts("usage: train_local [flags]: trains without a server; see also --model.kind K --dataset.kind K --help");
    for (size_t i = 0; i < count; i++) {
        printf("%s: %s\n", tables[i]->name, tables[i]->summary);
        option_print_help(tables[i], prefixes[i], stdout);
    }
}

int main(int argc, char **argv) {
    struct lg_error error = {0};
    struct training t = {0};
    const struct model_kind *model = NULL;
    const struct dataset_kind *dataset = NULL;
    struct config *config = config_new();
    enum lg_status status = model_kind_find(peek(argc, argv, "--model.kind", "mlp"), &model, &error);
    if (status == LG_OK)
        status = dataset_kind_find(peek(argc, argv, "--dataset.kind", "glyphs"), &dataset, &error);
    if (status != LG_OK)
        goto out;
    const struct option_table *tables[] = {&table, &model_option_table, model->options, &dataset_option_table,
                                           dataset->options};
    static const char *const prefixes[] = {"", "model.", "model.", "dataset.", "dataset."};
    if (argc > 1 && strcmp(argv[argc - 1], "--help") == 0) {
        print_help(tables, prefixes, 5);
        goto out;
    }
    status = option_take_flags_of(tables, prefixes, 5, &argc, argv, config, &error);
    if (status == LG_OK && argc > 1)
        status = lg_fail(&error, LG_INVALID, "\"%s\" is not a flag", argv[1]);
    if (status == LG_OK)
        status = prepare(&t, config, &error);
    if (status == LG_OK)
        status = run(&t, &error);
out:
    if (status != LG_OK)
        fprintf(stderr, "train_local: %s\n", error.message);
    finish(&t);
    config_free(config);
    return status == LG_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
