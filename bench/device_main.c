/* How fast a device computes: its ops, its copies, and whole training steps of each model, with nothing around them.
 *
 *   build/release/bench/device --device cuda:0/bf16 --gpt yes
 *
 * One line for each: name, microseconds, and what it comes to. A step takes a batch from the host's memory and is
 * forward, backward and an update by AdamW in the device's. A model's arithmetic is counted as
 * model.flops_per_prediction says, and as a share of what the device could do at best where that is known. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/clock.h"
#include "common/codec.h"
#include "common/option.h"
#include "common/random.h"
#include "worker/model.h"

struct settings {
    char device[OPTION_TEXT_BYTES], ops[OPTION_TEXT_BYTES], gpt[OPTION_TEXT_BYTES];
    int64_t threads, batch, context, vocabulary, layers, width, heads;
    double seconds;
};

#define ENTRY(key_, type_, fallback_, ...)                                                                             \
    { .key = #key_, .type = type_, .offset = offsetof(struct settings, key_), .fallback = fallback_, __VA_ARGS__ }
static const struct option options[] = {
    ENTRY(device, OPTION_STRING, "auto", .help = "auto, cpu or cuda:N, as in worker.yaml"),
    ENTRY(threads, OPTION_INT, "0", .least = 0, .most = 256, .help = "threads that compute; 0 takes all cores"),
    ENTRY(seconds, OPTION_FLOAT, "0.3", .least = 0.01, .most = 60, .help = "for each line"),
    ENTRY(ops, OPTION_CHOICE, "yes", .choices = "no|yes", .help = "single ops and copies, before the models"),
    ENTRY(gpt, OPTION_CHOICE, "no", .choices = "no|yes|only", .help = "a GPT too, of GPT-2-small's shape, or alone"),
    ENTRY(batch, OPTION_INT, "8", .least = 1, .most = 1024, .help = "sequences in a step of gpt"),
    ENTRY(context, OPTION_INT, "1024", .least = 1, .most = 65536, .help = "tokens in a sequence of gpt"),
    ENTRY(vocabulary, OPTION_INT, "50304", .least = 2, .most = 65536, .help = "tokens that gpt knows"),
    ENTRY(layers, OPTION_INT, "12", .least = 1, .most = 256, .help = "transformer blocks of gpt"),
    ENTRY(width, OPTION_INT, "768", .least = 1, .most = 65536, .help = "width of gpt"),
    ENTRY(heads, OPTION_INT, "12", .least = 1, .most = 1024, .help = "attention heads of gpt"),
};
#undef ENTRY

static const struct option_table table = {
    .name = "device",
    .summary = "measure a device",
    .options = options,
    .count = sizeof options / sizeof *options,
    .config_bytes = sizeof(struct settings),
};

enum { N = 1 << 24, SIDE = 4096, ROWS = 8192, WIDTH = 768, CLASSES = 10 };

/* What is measured with: device memory a, b, c [N * 4] floats each, which x, y, z are too, and host memory [N] floats.
 */
struct bench {
    struct settings settings;
    struct device *device;
    const struct device_ops *ops;
    struct device_stream *stream;
    float *a, *b, *c, *host, *zeros, *saved; /* zeros [4 * WIDTH]; saved: attention's */
    struct activation *x, *y, *z;
    int32_t *labels; /* zeros */
    struct device_sums *sums;
    struct model *model;
    float *m, *v; /* of AdamW, for the model */
    uint64_t step;
    struct batch batch;
    /* ---- codecs: what is encoded with, how many units, and how many bytes they come to at most. */
    const struct codec *codec;
    struct device_unit *units;
    size_t unit_count, encoded_bytes;
};

typedef enum lg_status work_fn(struct bench *bench, struct lg_error *error);

/* Until what was measured is done: a model has a stream of its own. */
static enum lg_status wait(struct bench *bench, struct lg_error *error) {
    return bench->ops->synchronize(bench->model ? bench->model->stream : bench->stream, error);
}

/* Seconds of one call, over as many as take settings.seconds after three to warm up. */
static enum lg_status measure(struct bench *bench, work_fn *work, double *seconds, struct lg_error *error) {
    enum lg_status status = LG_OK;
    uint64_t count = 0, step = 1;
    for (int i = 0; i < 3 && status == LG_OK; i++)
        status = work(bench, error);
    if (status == LG_OK)
        status = wait(bench, error);
    double start = clock_seconds(), spent = 0;
    while (status == LG_OK && spent < bench->settings.seconds) {
        for (uint64_t i = 0; i < step && status == LG_OK; i++)
            status = work(bench, error);
        if (status == LG_OK)
            status = wait(bench, error);
        count += step;
        step = count; /* so that waiting for the device does not count */
        spent = clock_seconds() - start;
    }
    *seconds = spent / (double)(count ? count : 1);
    return status;
}

/* `amount` a call, in units of `unit` times 1e9 a second. */
static enum lg_status line(struct bench *bench, const char *name, work_fn *work, double amount, const char *unit,
                           struct lg_error *error) {
    double seconds = 0;
    enum lg_status status = measure(bench, work, &seconds, error);
    if (status == LG_OK)
        printf("%-34s %12.1f us %12.1f %s\n", name, seconds * 1e6, amount / seconds / 1e9, unit);
    fflush(stdout);
    return status;
}

/* ---- ops */

#define WORK(name, ...)                                                                                                \
    static enum lg_status name(struct bench *t, struct lg_error *error) {                                              \
        (void)error;                                                                                                   \
        __VA_ARGS__;                                                                                                   \
        return LG_OK;                                                                                                  \
    }
WORK(work_upload, t->ops->upload(t->stream, N * sizeof(float), t->host, t->a))
WORK(work_download, t->ops->download(t->stream, N * sizeof(float), t->a, t->host))
WORK(work_copy, t->ops->copy(t->stream, N * sizeof(float), t->a, t->b))
WORK(work_axpy, t->ops->axpy(t->stream, N, 1e-6f, t->a, t->b))
WORK(work_gelu, t->ops->gelu_forward(t->stream, N, t->x, t->y))
WORK(work_bias_gelu, t->ops->bias_gelu(t->stream, ROWS, 4 * WIDTH, t->zeros, t->x, t->y))
WORK(work_gelu_backward, t->ops->gelu_backward_sums(t->stream, ROWS, 4 * WIDTH, t->x, t->y, t->z, t->c + 2 * N))
WORK(work_residual, t->ops->bias_residual(t->stream, ROWS, WIDTH, t->zeros, t->x, t->y, t->z))
static const struct device_adamw rule = {1e-4f, 0.1f, 0.9, 0.999, 1e-8, 1};
WORK(work_adamw, t->ops->adamw(t->stream, N, &rule, t->a, t->b, t->c, t->c + N))
WORK(work_narrow, t->ops->narrow(t->stream, N, t->a, t->y))
WORK(work_bias, t->ops->bias_add(t->stream, ROWS, WIDTH, t->zeros, t->y))
WORK(work_columns, t->ops->column_sums(t->stream, ROWS, WIDTH, t->x, t->b))
WORK(work_gemm, t->ops->gemm(t->stream, false, true, SIDE, SIDE, SIDE, 1, t->x, t->y, 0, t->z))
WORK(work_norm, t->ops->norm_forward(t->stream, ROWS, WIDTH, 1e-5f, t->x, t->a, t->a, t->y, t->c, t->c + ROWS))
WORK(work_norm_backward, t->ops->norm_backward(t->stream, ROWS, WIDTH, t->x, t->a, t->c, t->c + ROWS, t->x, t->y,
                                               t->c + 2 * ROWS, t->c + 3 * ROWS))
WORK(work_softmax, t->ops->softmax_cross_entropy(t->stream, 1024, 32768, t->x, t->labels, 1, t->y, t->sums))
static const struct device_attention heads = {.batch = 8, .time = 1024, .heads = 12, .width = 64};
WORK(work_attention, t->ops->attention_forward(t->stream, &heads, t->x, t->y, t->saved))
WORK(work_attention_backward, t->ops->attention_backward(t->stream, &heads, t->x, t->y, t->saved, t->y, t->z))

static enum lg_status bench_ops(struct bench *t, struct lg_error *error) {
    const double floats = N * 4e0, each = t->device->activation_bytes, numbers = N * each,
                 matrix = (double)ROWS * WIDTH * each;
    const double causal =
        8.0 * 12 * 1024 * 1024 * 64 * 2; /* multiply-adds of q k^T and p v below the diagonal, twice */
    const struct {
        const char *name;
        work_fn *work;
        double amount;
        const char *unit;
    } lines[] = {
        {"copy within the device, 64 MiB", work_copy, 2 * floats, "GB/s"},
        {"axpy, 16 Mi", work_axpy, 3 * floats, "GB/s"},
        {"narrow, 16 Mi", work_narrow, floats + numbers, "GB/s"},
        {"gelu, 16 Mi", work_gelu, 2 * numbers, "GB/s"},
        {"bias_gelu 8192 x 3072", work_bias_gelu, 12 * matrix, "GB/s"},
        {"gelu_backward_sums 8192 x 3072", work_gelu_backward, 12 * matrix, "GB/s"},
        {"bias_residual 8192 x 768", work_residual, 3 * matrix, "GB/s"},
        {"bias_add 8192 x 768", work_bias, 2 * matrix, "GB/s"},
        {"column_sums 8192 x 768", work_columns, matrix, "GB/s"},
        {"norm_forward 8192 x 768", work_norm, 2 * matrix, "GB/s"},
        {"norm_backward 8192 x 768", work_norm_backward, 6 * matrix, "GB/s"},
        {"softmax 1024 x 32768", work_softmax, 2 * 1024 * 32768 * each, "GB/s"},
        {"gemm 4096 x 4096 x 4096", work_gemm, 2.0 * SIDE * SIDE * SIDE, "GFLOP/s"},
        {"attention 8 x 1024 x 12 x 64", work_attention, causal, "GFLOP/s"},
        {"attention backward", work_attention_backward, 2.5 * causal, "GFLOP/s"},
        {"adamw, 16 Mi", work_adamw, 7 * floats, "GB/s"},
        {"upload, 64 MiB", work_upload, floats, "GB/s"},
        {"download, 64 MiB", work_download, floats, "GB/s"},
    };
    enum lg_status status = LG_OK;
    for (size_t i = 0; i < sizeof lines / sizeof *lines && status == LG_OK; i++)
        status = line(t, lines[i].name, lines[i].work, lines[i].amount, lines[i].unit, error);
    if (status != LG_OK || !t->ops->host_register(t->device, t->host, N * sizeof(float), false))
        return status;
    status = line(t, "upload from kept pages", work_upload, floats, "GB/s", error);
    if (status == LG_OK)
        status = line(t, "download to kept pages", work_download, floats, "GB/s", error);
    t->ops->host_unregister(t->device, t->host);
    return status;
}

/* ---- codecs. Values lie in a, their residual behind them, encoded units in b, end to end; all in units of the largest
 * size, with normal values. */

enum { UNIT = CODEC_ELEMENTS_MAX, UNITS = N / UNIT, UNITS_FEW = UNITS / 16 };
static const struct codec_options usual = {.keep = 0.01};

WORK(work_encode, t->ops->encode(t->stream, t->codec, &usual, t->unit_count, t->units, t->a, t->a + N,
                                 (uint8_t *)(void *)t->b, (uint32_t *)(void *)(t->b + (size_t)2 * N)))
WORK(work_download_encoded, t->ops->download(t->stream, t->encoded_bytes, t->b, t->host))

/* Names this codec's units for the works above; false without memory. */
static bool units_fill(struct bench *t, const struct codec *codec) {
    const size_t each = codec->bytes_max(UNIT, &usual);
    struct device_unit *units = calloc(UNITS, sizeof *units);
    if (!units)
        return false;
    for (size_t i = 0; i < UNITS; i++)
        units[i] = (struct device_unit){.first = i * UNIT, .key = random_mix(1, i), .at = i * each, .elements = UNIT};
    t->codec = codec;
    t->encoded_bytes = UNITS * each;
    t->ops->upload(t->stream, UNITS * sizeof *units, units, t->units);
    t->ops->fill(t->stream, N, 0, t->a + N);
    const bool well = t->ops->synchronize(t->stream, NULL) == LG_OK;
    free(units);
    return well;
}

/* How long encoding takes, all units and few; the copy of what comes out; and the first over what that copy is shorter
 * than `plain` seconds, those of the floats' own: below 1, encoding is faster than the copy that it saves. */
static enum lg_status bench_codec(struct bench *t, const struct codec *codec, double plain, struct lg_error *error) {
    const double floats = N * 4e0;
    double encode, few = 0, copy = 0;
    char name[64];
    if (!units_fill(t, codec))
        return lg_fail(error, LG_NO_MEMORY, "no memory to measure codecs with");
    t->unit_count = UNITS;
    enum lg_status status = measure(t, work_encode, &encode, error);
    t->unit_count = UNITS_FEW;
    if (status == LG_OK)
        status = measure(t, work_encode, &few, error);
    if (status == LG_OK)
        status = measure(t, work_download_encoded, &copy, error);
    if (status != LG_OK)
        return status;
    snprintf(name, sizeof name, "%s, encode 64 MiB", codec->name);
    printf("%-34s %12.1f us %12.1f GB/s\n", name, encode * 1e6, floats / encode / 1e9);
    printf("%-34s %12.1f us %12.1f GB/s\n", "  encode 4 MiB", few * 1e6, floats / 16 / few / 1e9);
    snprintf(name, sizeof name, "  download of %.1f MiB", (double)t->encoded_bytes / (1 << 20));
    printf("%-34s %12.1f us %12.1f GB/s\n", name, copy * 1e6, (double)t->encoded_bytes / copy / 1e9);
    if (!codec->exact && !t->device->host_memory)
        printf("%-34s %15s %12.2f of the copy that it saves\n", "  encode", "", encode / (plain - copy));
    fflush(stdout);
    return LG_OK;
}

static enum lg_status bench_codecs(struct bench *t, struct lg_error *error) {
    size_t count;
    const struct codec *const *all = codecs(&count);
    struct random random;
    double plain = 0;
    random_init(&random, 1);
    for (size_t i = 0; i < N; i++)
        t->host[i] = random_normal(&random);
    t->ops->upload(t->stream, N * sizeof(float), t->host, t->a);
    enum lg_status status = t->ops->synchronize(t->stream, error);
    const bool kept = status == LG_OK && t->ops->host_register(t->device, t->host, N * sizeof(float), false);
    if (status == LG_OK)
        status = measure(t, work_download, &plain, error);
    for (size_t i = 0; i < count && status == LG_OK; i++)
        status = bench_codec(t, all[i], plain, error);
    if (kept)
        t->ops->host_unregister(t->device, t->host);
    return status;
}

/* ---- models */

static enum lg_status work_step(struct bench *t, struct lg_error *error) {
    struct model_result result;
    enum lg_status status = model_forward(t->model, &t->batch, &result, error);
    if (status == LG_OK)
        status = model_backward(t->model, NULL, NULL, error);
    struct device_adamw update = rule;
    update.step = ++t->step;
    if (status == LG_OK)
        t->ops->adamw(t->model->stream, t->model->elements, &update, t->model->gradients, t->model->parameters, t->m,
                      t->v);
    return status;
}

struct subject {
    const char *name, *kind;
    uint32_t batch;
    struct dataset_info info;
    const char *keys[4][2];
};

/* Features or tokens of `subject`, drawn; freed by the caller. */
static bool batch_fill(const struct subject *subject, struct batch *batch, void **memory) {
    const struct dataset_info *info = &subject->info;
    size_t labels = (size_t)subject->batch * (info->context ? info->context : 1);
    size_t floats = info->context ? 0 : (size_t)subject->batch * info->width;
    int32_t *numbers = malloc((2 * labels + floats) * sizeof *numbers);
    struct random random;
    *memory = numbers;
    if (!numbers)
        return false;
    random_init(&random, 1);
    float *features = (float *)(void *)(numbers + 2 * labels);
    for (size_t i = 0; i < 2 * labels; i++)
        numbers[i] = (int32_t)random_below(&random, info->classes);
    for (size_t i = 0; i < floats; i++)
        features[i] = random_normal(&random);
    *batch =
        (struct batch){.count = subject->batch, .features = features, .tokens = numbers, .labels = numbers + labels};
    return true;
}

/* Both in FLOP/s, 0 where not known. */
static void print_arithmetic(double flops, double peak) {
    if (flops > 0)
        printf("%-34s %15s %12.1f GFLOP/s", "  arithmetic of the model", "", flops / 1e9);
    if (flops > 0 && peak > 0)
        printf(", %.1f %% of %.0f TFLOP/s", 100 * flops / peak, peak / 1e12);
    if (flops > 0)
        printf("\n");
}

static enum lg_status bench_model(struct bench *t, const struct subject *subject, struct lg_error *error) {
    struct config *config = config_new();
    void *memory = NULL;
    float *initial = NULL;
    double seconds = 0;
    char key[64];
    enum lg_status status = config_set(config, "model.kind", subject->kind, "device", error);
    for (int i = 0; i < 4 && subject->keys[i][0] && status == LG_OK; i++) {
        snprintf(key, sizeof key, "model.%s", subject->keys[i][0]);
        status = config_set(config, key, subject->keys[i][1], "device", error);
    }
    if (status == LG_OK)
        status = model_create(config, &subject->info, t->device, subject->batch, &t->model, error);
    if (status != LG_OK)
        goto out;
    size_t bytes = t->model->elements * sizeof *initial;
    initial = malloc(bytes);
    t->m = t->ops->alloc(t->device, bytes);
    t->v = t->ops->alloc(t->device, bytes);
    if (!initial || !t->m || !t->v || !batch_fill(subject, &t->batch, &memory)) {
        status = lg_fail(error, LG_NO_MEMORY, "no memory for a batch and an optimizer");
        goto out;
    }
    model_initialise(t->model, 1, initial);
    t->ops->upload(t->model->stream, bytes, initial, t->model->parameters);
    t->ops->zero(t->model->stream, bytes, t->m);
    t->ops->zero(t->model->stream, bytes, t->v);
    t->step = 0;
    status = measure(t, work_step, &seconds, error);
    if (status != LG_OK)
        goto out;
    double tokens = subject->batch * (subject->info.context ? (double)subject->info.context : 1);
    printf("%-34s %12.1f us %12.0f %s/s\n", subject->name, seconds * 1e6, tokens / seconds,
           subject->info.context ? "tokens" : "samples");
    print_arithmetic(t->model->flops_per_prediction * tokens / seconds, t->device->flops_peak);
    fflush(stdout);
out:
    free(memory);
    free(initial);
    t->ops->free(t->device, t->m);
    t->ops->free(t->device, t->v);
    t->m = t->v = NULL;
    model_destroy(t->model);
    t->model = NULL;
    config_free(config);
    return status;
}

static enum lg_status bench_models(struct bench *t, struct lg_error *error) {
    const struct dataset_info images = {
        .form = DATASET_DENSE, .width = 784, .channels = 1, .height = 28, .image_width = 28, .classes = CLASSES};
    const struct settings *o = &t->settings;
    char name[64], layers[24], width[24], head_count[24];
    snprintf(name, sizeof name, "gpt %lld x %lld, batch %lld x %lld", (long long)o->layers, (long long)o->width,
             (long long)o->batch, (long long)o->context);
    snprintf(layers, sizeof layers, "%lld", (long long)o->layers);
    snprintf(width, sizeof width, "%lld", (long long)o->width);
    snprintf(head_count, sizeof head_count, "%lld", (long long)o->heads);
    const struct subject subjects[] = {
        {"mlp 784-256-128-10, batch 256", "mlp", 256, images, {{0}}},
        {"cnn 28 x 28, batch 256", "cnn", 256, images, {{0}}},
        {name,
         "gpt",
         (uint32_t)o->batch,
         {.form = DATASET_TOKENS, .classes = (uint32_t)o->vocabulary, .context = (uint32_t)o->context},
         {{"layers", layers}, {"width", width}, {"heads", head_count}}},
    };
    size_t first = strcmp(o->gpt, "only") == 0 ? 2 : 0, count = strcmp(o->gpt, "no") == 0 ? 2 : 3;
    enum lg_status status = LG_OK;
    for (size_t i = first; i < count && status == LG_OK; i++)
        status = bench_model(t, &subjects[i], error);
    return status;
}

/* Random numbers everywhere, since how fast a device multiplies depends on what: those of a million repeat. Half of the
 * memory where activations are bf16, which is as much as their ops use; the other half is zero. */
static void bench_fill(struct bench *t) {
    enum { DRAWN = 1 << 20 };
    struct random random;
    random_init(&random, 1);
    for (size_t i = 0; i < N; i++)
        t->host[i] = i < DRAWN ? random_normal(&random) : t->host[i - DRAWN];
    struct activation *const all[] = {t->x, t->y, t->z};
    for (size_t i = 0; i < 3; i++)
        t->ops->zero(t->stream, (size_t)4 * N * sizeof(float), all[i]);
    t->ops->upload(t->stream, N * sizeof(float), t->host, t->c + 3 * (size_t)N);
    for (size_t i = 0; i < 12; i++)
        if (i < 11) /* the last quarter of c is what the others are made from */
            t->ops->narrow(t->stream, N, t->c + 3 * (size_t)N, activation_at(t->device, all[i / 4], i % 4 * (size_t)N));
}

static enum lg_status bench_open(struct bench *t, struct lg_error *error) {
    enum lg_status status = device_open(t->settings.device, (unsigned)t->settings.threads, &t->device, error);
    if (status != LG_OK)
        return status;
    const size_t bytes = (size_t)N * 4 * sizeof(float);
    t->ops = t->device->ops;
    t->stream = t->ops->stream_open(t->device);
    t->a = t->ops->alloc(t->device, bytes);
    t->b = t->ops->alloc(t->device, bytes);
    t->c = t->ops->alloc(t->device, bytes);
    t->zeros = t->ops->alloc(t->device, 4 * WIDTH * sizeof *t->zeros);
    t->saved = t->ops->alloc(t->device, t->ops->attention_saved(&heads) * sizeof *t->saved);
    t->labels = (int32_t *)(void *)t->zeros;
    t->sums = t->ops->alloc(t->device, sizeof *t->sums);
    t->units = t->ops->alloc(t->device, UNITS * sizeof *t->units);
    t->host = aligned_alloc(4096, N * sizeof(float));
    if (!t->stream || !t->a || !t->b || !t->c || !t->zeros || !t->saved || !t->sums || !t->units || !t->host)
        return lg_fail(error, LG_NO_MEMORY, "no memory on device \"%s\"", t->device->name);
    t->x = (struct activation *)(void *)t->a;
    t->y = (struct activation *)(void *)t->b;
    t->z = (struct activation *)(void *)t->c;
    t->ops->zero(t->stream, 4 * WIDTH * sizeof *t->zeros, t->zeros);
    bench_fill(t);
    printf("%s\n", t->device->name);
    return t->ops->synchronize(t->stream, error);
}

static void bench_close(struct bench *t) {
    if (!t->device)
        return;
    void *const memories[] = {t->a, t->b, t->c, t->zeros, t->saved, t->sums, t->units};
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        t->ops->free(t->device, memories[i]);
    t->ops->stream_close(t->stream);
    free(t->host);
    device_close(t->device);
}

int main(int argc, char **argv) {
    struct bench bench = {0};
    struct lg_error error = {0};
    struct config *config = config_new();
    const struct option_table *tables[] = {&table};
    static const char *const prefixes[] = {""};
    enum lg_status status = option_take_flags_of(tables, prefixes, 1, &argc, argv, config, &error);
    if (status == LG_OK && argc > 1)
        status = lg_fail(&error, LG_INVALID, "\"%s\" is not a flag", argv[1]);
    if (status == LG_OK)
        status = option_apply(&table, "", config, &bench.settings, &error);
    if (status == LG_OK)
        status = bench_open(&bench, &error);
    if (status == LG_OK && strcmp(bench.settings.ops, "yes") == 0)
        status = bench_ops(&bench, &error);
    if (status == LG_OK && strcmp(bench.settings.ops, "yes") == 0)
        status = bench_codecs(&bench, &error);
    if (status == LG_OK)
        status = bench_models(&bench, &error);
    if (status != LG_OK)
        fprintf(stderr, "device: %s\n", error.message);
    bench_close(&bench);
    config_free(config);
    return status == LG_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
