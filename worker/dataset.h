/* Datasets: where samples come from. One file under worker/datasets/ and one line in dataset.def add one.
 *
 * A dataset has a train and a test split of numbered samples. Which samples a trainer reads, and in which order, is
 * decided by the coordinator's leases; a dataset only answers "give me these samples of this epoch". Not thread-safe:
 * one dataset per thread. */
#ifndef LAGOON_WORKER_DATASET_H
#define LAGOON_WORKER_DATASET_H

#include <stdint.h>

#include "common/config.h"
#include "common/option.h"
#include "common/status.h"

enum dataset_form {
    DATASET_DENSE,  /* f32 features [width], labels 0..classes-1 */
    DATASET_SPARSE, /* index:value pairs below `width`, labels 0..classes-1 */
    DATASET_TOKENS, /* `context` + 1 tokens below `classes`: inputs are the first, targets the last `context` of them */
};

struct dataset_info {
    enum dataset_form form;
    uint64_t train_samples, test_samples;
    uint32_t width;                         /* features per sample (dense: channels*height*image_width) */
    uint32_t channels, height, image_width; /* images; 0 where the features have no such shape */
    uint32_t classes;                       /* labels, or the vocabulary */
    uint32_t context;                       /* tokens per sample; 0 unless DATASET_TOKENS */
    uint64_t fingerprint;                   /* XXH3 of what the samples are made from: all trainers must agree */
};

enum dataset_split { DATASET_TRAIN, DATASET_TEST };

/* A batch in host memory. Buffers belong to the batch, grow as needed and are reused by the next read. */
struct batch {
    uint32_t count;       /* samples */
    float *features;      /* DENSE: [count][width] */
    uint32_t *row_starts; /* SPARSE: [count+1] into columns/values */
    uint32_t *columns;    /* SPARSE */
    float *values;        /* SPARSE */
    int32_t *tokens;      /* TOKENS: [count][context] */
    int32_t *labels;      /* DENSE, SPARSE: [count]; TOKENS: [count][context] targets */
    size_t capacity_features, capacity_rows, capacity_entries, capacity_tokens, capacity_labels;
};

void batch_deinit(struct batch *batch); /* a zeroed batch is empty and valid */
/* For the readers: make room in the buffers of one form, contents are lost. `count` is set. */
LG_MUST_CHECK enum lg_status batch_reserve_dense(struct batch *batch, uint32_t count, uint32_t width,
                                                 struct lg_error *error);
LG_MUST_CHECK enum lg_status batch_reserve_sparse(struct batch *batch, uint32_t count, size_t entries,
                                                  struct lg_error *error);
LG_MUST_CHECK enum lg_status batch_reserve_tokens(struct batch *batch, uint32_t count, uint32_t context,
                                                  struct lg_error *error);

struct dataset; /* each kind embeds this first */

struct dataset_kind {
    const char *name;
    const char *summary;
    const struct option_table *options; /* the `dataset.*` keys, without `kind` */
    /* `options` has been filled by option_apply from the table above. Errors name file, line and what was expected. */
    enum lg_status (*open)(const void *options, struct dataset **out, struct lg_error *error);
    /* Reads `count` samples of `split` into `batch`. `epoch` matters to datasets that vary by epoch (glyphs draws new
     * distortions, text shifts its windows); the same (epoch, index) always gives the same sample. Indices are checked
     * by dataset_read. */
    enum lg_status (*read)(struct dataset *dataset, enum dataset_split split, uint64_t epoch, const uint64_t *indices,
                           uint32_t count, struct batch *batch, struct lg_error *error);
    void (*close)(struct dataset *dataset);
};

struct dataset {
    const struct dataset_kind *kind;
    struct dataset_info info;
};

/* The registry: dataset_glyphs, dataset_idx, .. */
#define X(symbol) extern const struct dataset_kind dataset_##symbol;
#include "worker/dataset.def"
#undef X
/* The key `kind` itself, for help texts and docs. */
extern const struct option_table dataset_option_table;
const struct dataset_kind *const *dataset_kinds(size_t *count);
/* Unknown names fail with the list of valid ones and the nearest. */
LG_MUST_CHECK enum lg_status dataset_kind_find(const char *name, const struct dataset_kind **out,
                                               struct lg_error *error);

/* Opens what `config` says under "dataset." ("dataset.kind" picks the entry). dataset_close frees; NULL is fine. */
LG_MUST_CHECK enum lg_status dataset_open(struct config *config, struct dataset **out, struct lg_error *error);
void dataset_close(struct dataset *dataset);
LG_MUST_CHECK enum lg_status dataset_read(struct dataset *dataset, enum dataset_split split, uint64_t epoch,
                                          const uint64_t *indices, uint32_t count, struct batch *batch,
                                          struct lg_error *error);

#endif
