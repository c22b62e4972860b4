/* Plain bytes for language models: windows of context + 1 bytes. The end of the file is kept for validation.
 *
 * Training windows start at offset + i * context, where the offset differs by epoch, so that over the epochs every
 * alignment is seen; their number does not depend on the epoch. */
#include <math.h>
#include <stdlib.h>

#include "common/random.h"
#include "worker/dataset.h"
#include "worker/datasets/readers.h"

struct text_options {
    char path[OPTION_TEXT_BYTES];
    int64_t context, seed;
    double validation;
};

#define ENTRY(key_, type_, field_, ...)                                                                                \
    { .key = key_, .type = type_, .offset = offsetof(struct text_options, field_), __VA_ARGS__ }
static const struct option options[] = {
    ENTRY("path", OPTION_STRING, path, .fallback = NULL, .help = "the file, plain or .gz; every byte is a token"),
    ENTRY("context", OPTION_INT, context, .fallback = "128", .least = 1, .most = 65536, .unit = "bytes",
          .help = "inputs per sample"),
    ENTRY("validation", OPTION_FLOAT, validation, .fallback = "0.1", .least = 0, .most = 0.9,
          .help = "fraction of the file, from its end, that is kept for evaluation"),
    ENTRY("seed", OPTION_INT, seed, .fallback = "1", .least = 0, .most = 9007199254740992.0,
          .help = "decides where the windows of an epoch start"),
};
#undef ENTRY

static const struct option_table option_table = {
    .name = "dataset text",
    .summary = "the bytes of one file, for language models",
    .options = options,
    .count = sizeof options / sizeof options[0],
    .config_bytes = sizeof(struct text_options),
};

enum { TEXT_VOCABULARY = 256 };

struct text_dataset {
    struct dataset base;
    uint8_t *bytes;
    size_t train_bytes; /* the rest is for evaluation */
    uint64_t seed;
};

static void text_close(struct dataset *dataset) {
    free(((struct text_dataset *)dataset)->bytes);
    free(dataset);
}

static enum lg_status load(const char *path, uint8_t **bytes, size_t *count, struct lg_error *error) {
    struct input input;
    enum lg_status status = input_open(&input, path, "dataset.path", error);
    if (status == LG_OK)
        status = input_read_all(&input, UINT32_MAX, bytes, count, error);
    input_close(&input);
    return status;
}

/* How many windows lie in `bytes` whatever the offset, which is at most context - 1 (train) or 0 (test). */
static uint64_t train_windows(size_t bytes, size_t context) {
    return bytes / context > 1 ? bytes / context - 1 : 0;
}

static uint64_t test_windows(size_t bytes, size_t context) {
    return bytes > 0 ? (bytes - 1) / context : 0;
}

static enum lg_status text_open(const void *option_values, struct dataset **out, struct lg_error *error) {
    const struct text_options *config = option_values;
    size_t count, context = (size_t)config->context;
    struct text_dataset *data = calloc(1, sizeof *data);
    if (!data)
        return lg_fail(error, LG_NO_MEMORY, "no memory for dataset \"text\"");
    data->base.kind = &dataset_text;
    enum lg_status status = load(config->path, &data->bytes, &count, error);
    if (status != LG_OK)
        goto out;
    size_t test_bytes = (size_t)floor((double)count * config->validation);
    data->train_bytes = count - test_bytes;
    data->seed = (uint64_t)config->seed;
    uint64_t print = fingerprint_bytes(fingerprint_bytes(0, "text1", 5), data->bytes, count);
    print = fingerprint_number(fingerprint_number(print, (double)context), (double)test_bytes);
    data->base.info = (struct dataset_info){
        .form = DATASET_TOKENS,
        .train_samples = train_windows(data->train_bytes, context),
        .test_samples = test_windows(test_bytes, context),
        .classes = TEXT_VOCABULARY,
        .context = (uint32_t)context,
        .fingerprint = fingerprint_number(print, (double)config->seed),
    };
    if (data->base.info.train_samples == 0 || (config->validation > 0 && data->base.info.test_samples == 0))
        status = lg_fail(error, LG_INVALID,
                         "\"%s\" has %zu bytes: too few for a window of context %zu in each split; expected at least "
                         "%zu to train on and %zu to evaluate on, so lower \"dataset.context\"",
                         config->path, count, context, 2 * context, context + 1);
out:
    if (status != LG_OK)
        text_close(&data->base);
    else
        *out = &data->base;
    return status;
}

static enum lg_status text_read(struct dataset *dataset, enum dataset_split split, uint64_t epoch,
                                const uint64_t *indices, uint32_t count, struct batch *batch, struct lg_error *error) {
    struct text_dataset *data = (struct text_dataset *)dataset;
    size_t context = dataset->info.context;
    size_t first = split == DATASET_TEST ? data->train_bytes : (size_t)(random_mix(data->seed, epoch) % context);
    enum lg_status status = batch_reserve_tokens(batch, count, dataset->info.context, error);
    if (status != LG_OK)
        return status;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *window = data->bytes + first + indices[i] * context;
        for (size_t j = 0; j < context; j++) {
            batch->tokens[i * context + j] = window[j];
            batch->labels[i * context + j] = window[j + 1];
        }
    }
    return LG_OK;
}

const struct dataset_kind dataset_text = {
    .name = "text",
    .summary = "the bytes of one file as tokens, for language models",
    .options = &option_table,
    .open = text_open,
    .read = text_read,
    .close = text_close,
};
