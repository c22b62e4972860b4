#include "worker/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct dataset_kind *const registry[] = {
#define X(symbol) &dataset_##symbol,
#include "worker/dataset.def"
#undef X
};
enum { REGISTRY_COUNT = sizeof registry / sizeof registry[0] };

const struct dataset_kind *const *dataset_kinds(size_t *count) {
    *count = REGISTRY_COUNT;
    return registry;
}

static void kind_names(char *text, size_t bytes) {
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < REGISTRY_COUNT && at < bytes; i++)
        at += (size_t)snprintf(text + at, bytes - at, "%s%s", i ? ", " : "", registry[i]->name);
}

enum lg_status dataset_kind_find(const char *name, const struct dataset_kind **out, struct lg_error *error) {
    const char *names[REGISTRY_COUNT + 1] = {NULL};
    for (size_t i = 0; i < REGISTRY_COUNT; i++) {
        if (strcmp(registry[i]->name, name) == 0) {
            *out = registry[i];
            return LG_OK;
        }
        names[i] = registry[i]->name;
    }
    char list[256];
    kind_names(list, sizeof list);
    const char *nearest = option_nearest(name, names);
    return lg_fail(error, LG_NOT_FOUND, "unknown dataset kind \"%s\"; valid kinds: %s%s%s%s", name, list,
                   nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
}

struct kind_option {
    char kind[OPTION_TEXT_BYTES];
};

static const struct option kind_options[] = {
    {.key = "kind",
     .type = OPTION_STRING,
     .offset = offsetof(struct kind_option, kind),
     .fallback = "glyphs",
     .help = "where samples come from: glyphs, mixture, idx, libsvm, csv, text, tokens or drawn-tokens"},
};
const struct option_table dataset_option_table = {
    .name = "dataset",
    .summary = "the data a job trains on",
    .options = kind_options,
    .count = 1,
    .config_bytes = sizeof(struct kind_option),
};

enum lg_status dataset_open(struct config *config, struct dataset **out, struct lg_error *error) {
    struct kind_option kind_option;
    const struct dataset_kind *kind = NULL;
    void *options = NULL;
    *out = NULL;
    enum lg_status status = option_apply(&dataset_option_table, "dataset.", config, &kind_option, error);
    if (status != LG_OK)
        goto out;
    status = dataset_kind_find(kind_option.kind, &kind, error);
    if (status != LG_OK)
        goto out;
    options = calloc(1, kind->options->config_bytes);
    if (!options) {
        status = lg_fail(error, LG_NO_MEMORY, "no memory for the options of dataset \"%s\"", kind->name);
        goto out;
    }
    status = option_apply(kind->options, "dataset.", config, options, error);
    if (status == LG_OK)
        status = kind->open(options, out, error);
out:
    free(options);
    return status;
}

void dataset_close(struct dataset *dataset) {
    if (dataset)
        dataset->kind->close(dataset);
}

enum lg_status dataset_read(struct dataset *dataset, enum dataset_split split, uint64_t epoch, const uint64_t *indices,
                            uint32_t count, struct batch *batch, struct lg_error *error) {
    uint64_t samples = split == DATASET_TRAIN ? dataset->info.train_samples : dataset->info.test_samples;
    for (uint32_t i = 0; i < count; i++) {
        if (indices[i] >= samples)
            return lg_fail(error, LG_INVALID,
                           "sample %llu is out of range: the %s split of dataset \"%s\" has %llu samples",
                           (unsigned long long)indices[i], split == DATASET_TRAIN ? "train" : "test",
                           dataset->kind->name, (unsigned long long)samples);
    }
    return dataset->kind->read(dataset, split, epoch, indices, count, batch, error);
}

/* ---- batches */

void batch_deinit(struct batch *batch) {
    free(batch->features);
    free(batch->row_starts);
    free(batch->columns);
    free(batch->values);
    free(batch->tokens);
    free(batch->labels);
    *batch = (struct batch){0};
}

/* Replaces *buffer by one of at least `need` elements of `size` bytes; capacities count elements. */
static enum lg_status grow(void *buffer, size_t *capacity, size_t need, size_t size, struct lg_error *error) {
    void **slot = buffer;
    if (need <= *capacity)
        return LG_OK;
    size_t wanted = need > *capacity + *capacity / 2 ? need : *capacity + *capacity / 2;
    void *fresh = wanted > SIZE_MAX / size ? NULL : malloc(wanted * size);
    if (!fresh)
        return lg_fail(error, LG_NO_MEMORY, "no memory for a batch of %zu values; lower the batch size", need);
    free(*slot);
    *slot = fresh;
    *capacity = wanted;
    return LG_OK;
}

enum lg_status batch_reserve_dense(struct batch *batch, uint32_t count, uint32_t width, struct lg_error *error) {
    batch->count = count;
    enum lg_status status =
        grow(&batch->features, &batch->capacity_features, (size_t)count * width, sizeof(float), error);
    return status != LG_OK ? status : grow(&batch->labels, &batch->capacity_labels, count, sizeof(int32_t), error);
}

/* Columns and values share capacity_entries, so they grow as one. */
static enum lg_status grow_entries(struct batch *batch, size_t entries, struct lg_error *error) {
    size_t capacity = batch->capacity_entries;
    enum lg_status status = grow(&batch->columns, &capacity, entries, sizeof(uint32_t), error);
    if (status != LG_OK)
        return status;
    return grow(&batch->values, &batch->capacity_entries, entries, sizeof(float), error);
}

enum lg_status batch_reserve_sparse(struct batch *batch, uint32_t count, size_t entries, struct lg_error *error) {
    batch->count = count;
    enum lg_status status = grow(&batch->row_starts, &batch->capacity_rows, (size_t)count + 1, sizeof(uint32_t), error);
    if (status == LG_OK)
        status = grow_entries(batch, entries, error);
    return status != LG_OK ? status : grow(&batch->labels, &batch->capacity_labels, count, sizeof(int32_t), error);
}

enum lg_status batch_reserve_tokens(struct batch *batch, uint32_t count, uint32_t context, struct lg_error *error) {
    size_t tokens = (size_t)count * context;
    batch->count = count;
    enum lg_status status = grow(&batch->tokens, &batch->capacity_tokens, tokens, sizeof(int32_t), error);
    return status != LG_OK ? status : grow(&batch->labels, &batch->capacity_labels, tokens, sizeof(int32_t), error);
}
