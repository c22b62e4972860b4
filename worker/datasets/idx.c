/* IDX files as MNIST and its relatives use them: images of unsigned bytes and one label byte each, plain or gzip. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/dataset.h"
#include "worker/datasets/readers.h"

/* ---- the format */

enum { IDX_TYPE_UNSIGNED_BYTE = 0x08, IDX_ITEM_BYTES_MAX = 1 << 26 };

static uint32_t big_endian(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static enum lg_status parse_magic(struct input *input, uint32_t least_rank, uint32_t most_rank, const char *what,
                                  uint32_t *rank, struct lg_error *error) {
    uint8_t magic[4];
    size_t got;
    enum lg_status status = input_read(input, magic, sizeof magic, &got, error);
    if (status != LG_OK)
        return status;
    if (got < sizeof magic)
        return lg_fail(error, LG_MALFORMED, "\"%s\" is truncated: expected a 4-byte IDX magic, the file has %zu bytes",
                       input->name, got);
    *rank = magic[3];
    if (magic[0] || magic[1] || magic[2] != IDX_TYPE_UNSIGNED_BYTE || *rank < least_rank || *rank > most_rank)
        return lg_fail(error, LG_MALFORMED,
                       "\"%s\" has magic 0x%08x at byte 0: expected 0x%08x (IDX, unsigned bytes, %u dimensions) for "
                       "%s; are images and labels swapped?",
                       input->name, big_endian(magic), 0x800u + least_rank, least_rank, what);
    return LG_OK;
}

static enum lg_status parse_shape(struct input *input, struct idx_array *array, struct lg_error *error) {
    uint8_t sizes[4 * IDX_RANK_MAX];
    size_t got, want = (size_t)4 * array->rank;
    enum lg_status status = input_read(input, sizes, want, &got, error);
    if (status != LG_OK)
        return status;
    if (got < want)
        return lg_fail(error, LG_MALFORMED,
                       "\"%s\" is truncated: expected %zu bytes of sizes after byte 4, the file has %zu", input->name,
                       want, got);
    array->item_bytes = 1;
    for (uint32_t i = 0; i < array->rank; i++) {
        array->shape[i] = big_endian(sizes + (size_t)4 * i);
        if (array->shape[i] == 0)
            return lg_fail(error, LG_MALFORMED, "\"%s\" has size 0 at byte %u: expected at least 1", input->name,
                           4 + 4 * i);
        array->item_bytes *= i == 0 ? 1 : array->shape[i];
        if (array->item_bytes > IDX_ITEM_BYTES_MAX)
            return lg_fail(error, LG_MALFORMED, "\"%s\" claims items of over %d bytes at byte %u: expected images",
                           input->name, IDX_ITEM_BYTES_MAX, 4 + 4 * i);
    }
    array->items = array->shape[0];
    return LG_OK;
}

enum lg_status idx_parse(struct input *input, uint32_t least_rank, uint32_t most_rank, const char *what,
                         struct idx_array *out, struct lg_error *error) {
    struct idx_array array = {0};
    enum lg_status status = parse_magic(input, least_rank, most_rank, what, &array.rank, error);
    if (status == LG_OK)
        status = parse_shape(input, &array, error);
    if (status != LG_OK)
        return status;
    /* One byte more than promised shows a file that is too long. */
    uint64_t promised = array.items * array.item_bytes;
    size_t got;
    status = input_read_all(input, promised + 1, &array.data, &got, error);
    if (status != LG_OK)
        return status;
    if (got != promised) {
        free(array.data);
        return lg_fail(error, LG_MALFORMED,
                       "\"%s\" is %s: its header promises %llu %s of %llu bytes = %llu bytes after "
                       "byte %u, the file has %s%zu; fetch it again",
                       input->name, got < promised ? "truncated" : "too long", (unsigned long long)array.items, what,
                       (unsigned long long)array.item_bytes, (unsigned long long)promised, 4 + 4 * array.rank,
                       got < promised ? "" : "at least ", got);
    }
    *out = array;
    return LG_OK;
}

void idx_free(struct idx_array *array) {
    free(array->data);
    *array = (struct idx_array){0};
}

/* ---- the dataset */

struct idx_options {
    char path[OPTION_TEXT_BYTES];
    char images[2][OPTION_TEXT_BYTES], labels[2][OPTION_TEXT_BYTES]; /* by split */
    int64_t classes;
    double mean, std;
};

#define ENTRY(key_, type_, field_, ...)                                                                                \
    { .key = key_, .type = type_, .offset = offsetof(struct idx_options, field_), __VA_ARGS__ }
static const struct option options[] = {
    ENTRY("path", OPTION_STRING, path, .fallback = "",
          .help = "folder with the four files under their usual names (train-images-idx3-ubyte, ..), plain or .gz"),
    ENTRY("train_images", OPTION_STRING, images[0], .fallback = "", .help = "images to train on, instead of path"),
    ENTRY("train_labels", OPTION_STRING, labels[0], .fallback = "", .help = "their labels"),
    ENTRY("test_images", OPTION_STRING, images[1], .fallback = "", .help = "images to evaluate on"),
    ENTRY("test_labels", OPTION_STRING, labels[1], .fallback = "", .help = "their labels"),
    ENTRY("classes", OPTION_INT, classes, .fallback = "10", .least = 2, .most = 256,
          .help = "labels are 0 up to one less than this"),
    ENTRY("mean", OPTION_FLOAT, mean, .fallback = "0.1307", .least = -1e6, .most = 1e6,
          .help = "taken from each pixel after scaling to 0..1"),
    ENTRY("std", OPTION_FLOAT, std, .fallback = "0.3081", .least = 1e-6, .most = 1e6,
          .help = "divides each pixel then; mean 0 and std 1 leave 0..1"),
};
#undef ENTRY

static const struct option_table option_table = {
    .name = "dataset idx",
    .summary = "images and labels in IDX files, as MNIST comes",
    .options = options,
    .count = sizeof options / sizeof options[0],
    .config_bytes = sizeof(struct idx_options),
};

struct idx_dataset {
    struct dataset base;
    struct idx_array images[2], labels[2]; /* by split */
    float pixel[256];                      /* byte to feature */
};

/* The path of one of the four files: the option's, or the usual name (plain, .gz) in the folder. */
static enum lg_status find_file(const struct idx_options *config, const char *given, const char *name, const char *key,
                                char path[PATH_MAX], struct lg_error *error) {
    if (given[0]) {
        snprintf(path, PATH_MAX, "%s", given);
        return LG_OK;
    }
    if (!config->path[0])
        return lg_fail(error, LG_INVALID,
                       "dataset \"idx\" has no %s file: set \"dataset.path\" to a folder, or \"dataset.%s\" to a file",
                       key, key);
    snprintf(path, PATH_MAX, "%s/%s.gz", config->path, name);
    if (access(path, F_OK) == 0)
        return LG_OK;
    snprintf(path, PATH_MAX, "%s/%s", config->path, name);
    return LG_OK;
}

static enum lg_status load_file(const char *path, const char *key, const char *what, uint32_t least_rank,
                                uint32_t most_rank, struct idx_array *out, struct lg_error *error) {
    struct input input;
    char option[64];
    snprintf(option, sizeof option, "dataset.%s", key);
    enum lg_status status = input_open(&input, path, option, error);
    if (status == LG_OK)
        status = idx_parse(&input, least_rank, most_rank, what, out, error);
    input_close(&input);
    return status;
}

static enum lg_status check_labels(const struct idx_array *images, const struct idx_array *labels, int64_t classes,
                                   const char *image_path, const char *label_path, struct lg_error *error) {
    if (images->items != labels->items)
        return lg_fail(
            error, LG_MALFORMED,
            "\"%.150s\" has %llu labels but \"%.150s\" has %llu images: expected as many; are they of one set?",
            label_path, (unsigned long long)labels->items, image_path, (unsigned long long)images->items);
    for (uint64_t i = 0; i < labels->items; i++) {
        if (labels->data[i] >= classes)
            return lg_fail(
                error, LG_MALFORMED,
                "\"%s\" has label %u at byte %llu: expected 0 to %lld; set \"dataset.classes\" if there are more",
                label_path, labels->data[i], (unsigned long long)(8 + i), (long long)classes - 1);
    }
    return LG_OK;
}

static enum lg_status load_split(struct idx_dataset *data, const struct idx_options *config, int split,
                                 struct lg_error *error) {
    static const char *const names[2][2] = {{"train-images-idx3-ubyte", "train-labels-idx1-ubyte"},
                                            {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}};
    static const char *const keys[2][2] = {{"train_images", "train_labels"}, {"test_images", "test_labels"}};
    char image_path[PATH_MAX], label_path[PATH_MAX];
    enum lg_status status =
        find_file(config, config->images[split], names[split][0], keys[split][0], image_path, error);
    if (status == LG_OK)
        status = find_file(config, config->labels[split], names[split][1], keys[split][1], label_path, error);
    if (status == LG_OK)
        status = load_file(image_path, keys[split][0], "images", 3, 4, &data->images[split], error);
    if (status == LG_OK)
        status = load_file(label_path, keys[split][1], "labels", 1, 1, &data->labels[split], error);
    if (status == LG_OK)
        status =
            check_labels(&data->images[split], &data->labels[split], config->classes, image_path, label_path, error);
    return status;
}

static uint64_t idx_fingerprint(const struct idx_dataset *data, const struct idx_options *config) {
    uint64_t print = fingerprint_bytes(0, "idx1", 4);
    for (int split = 0; split < 2; split++) {
        const struct idx_array *images = &data->images[split], *labels = &data->labels[split];
        print = fingerprint_bytes(print, images->shape, sizeof images->shape);
        print = fingerprint_bytes(print, images->data, images->items * images->item_bytes);
        print = fingerprint_bytes(print, labels->data, labels->items);
    }
    print = fingerprint_number(print, config->mean);
    print = fingerprint_number(print, config->std);
    return fingerprint_number(print, (double)config->classes);
}

static void idx_close(struct dataset *dataset) {
    struct idx_dataset *data = (struct idx_dataset *)dataset;
    for (int split = 0; split < 2; split++) {
        idx_free(&data->images[split]);
        idx_free(&data->labels[split]);
    }
    free(data);
}

/* Rank 3: one channel; rank 4: items, channels, height, width. */
static void describe(struct idx_dataset *data, const struct idx_options *config) {
    const struct idx_array *train = &data->images[0];
    data->base.info = (struct dataset_info){
        .form = DATASET_DENSE,
        .train_samples = train->items,
        .test_samples = data->images[1].items,
        .width = (uint32_t)train->item_bytes,
        .channels = train->rank == 4 ? train->shape[1] : 1,
        .height = train->shape[train->rank - 2],
        .image_width = train->shape[train->rank - 1],
        .classes = (uint32_t)config->classes,
        .fingerprint = idx_fingerprint(data, config),
    };
    for (int i = 0; i < 256; i++)
        data->pixel[i] = (float)((i / 255.0 - config->mean) / config->std);
}

static enum lg_status idx_open(const void *option_values, struct dataset **out, struct lg_error *error) {
    const struct idx_options *config = option_values;
    struct idx_dataset *data = calloc(1, sizeof *data);
    if (!data)
        return lg_fail(error, LG_NO_MEMORY, "no memory for dataset \"idx\"");
    data->base.kind = &dataset_idx;
    enum lg_status status = load_split(data, config, 0, error);
    if (status == LG_OK)
        status = load_split(data, config, 1, error);
    if (status == LG_OK && (data->images[0].rank != data->images[1].rank ||
                            memcmp(data->images[0].shape + 1, data->images[1].shape + 1, 3 * sizeof(uint32_t)) != 0))
        status =
            lg_fail(error, LG_MALFORMED,
                    "train images have %llu bytes each and test images %llu, or another shape: expected the same",
                    (unsigned long long)data->images[0].item_bytes, (unsigned long long)data->images[1].item_bytes);
    if (status != LG_OK) {
        idx_close(&data->base);
        return status;
    }
    describe(data, config);
    *out = &data->base;
    return LG_OK;
}

static enum lg_status idx_read(struct dataset *dataset, enum dataset_split split, uint64_t epoch,
                               const uint64_t *indices, uint32_t count, struct batch *batch, struct lg_error *error) {
    struct idx_dataset *data = (struct idx_dataset *)dataset;
    const struct idx_array *images = &data->images[split];
    size_t width = dataset->info.width;
    (void)epoch;
    enum lg_status status = batch_reserve_dense(batch, count, dataset->info.width, error);
    if (status != LG_OK)
        return status;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *image = images->data + indices[i] * width;
        float *features = batch->features + i * width;
        for (size_t j = 0; j < width; j++)
            features[j] = data->pixel[image[j]];
        batch->labels[i] = data->labels[split].data[indices[i]];
    }
    return LG_OK;
}

const struct dataset_kind dataset_idx = {
    .name = "idx",
    .summary = "images and labels in IDX files (MNIST and its relatives), plain or gzip",
    .options = &option_table,
    .open = idx_open,
    .read = idx_read,
    .close = idx_close,
};
