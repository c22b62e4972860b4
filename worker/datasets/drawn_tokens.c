/* Tokens drawn from a seed, for measuring and trying out language models without files.
 *
 * A token's frequency falls with its number about as words' do with their rank (Zipf): the classes {0}, {1, 2},
 * {3 .. 6}, .. of doubling size are equally likely, and so are the tokens in one. Each token has one successor, drawn
 * the same way, that follows it with probability `structure`; otherwise the next one is drawn anew. So there is
 * something to learn, first which tokens are frequent and then what follows what, and how much is known: of 50304
 * tokens with structure 0.5 the loss falls from ln(50304) = 10.8 to about 7.8 and then to 4.6, but no further. Only
 * integers are used: all machines draw the same. */
#include <stdlib.h>

#include "common/random.h"
#include "worker/dataset.h"
#include "worker/datasets/input.h"

struct drawn_options {
    int64_t vocabulary, context, train_samples, test_samples, seed;
    double structure;
};

struct drawn_dataset {
    struct dataset base;
    uint64_t seed;
    uint32_t often; /* of 2^24: the successor follows */
};

#define AT(field) offsetof(struct drawn_options, field)

static const struct option options[] = {
    {"vocabulary", OPTION_INT, AT(vocabulary), "50304", 2, 65536, NULL, "tokens", "different tokens"},
    {"context", OPTION_INT, AT(context), "1024", 1, 65536, NULL, "tokens", "inputs per sample"},
    {"train_samples", OPTION_INT, AT(train_samples), "10000", 1, 1e9, NULL, "samples",
     "training samples, others in each epoch"},
    {"test_samples", OPTION_INT, AT(test_samples), "64", 0, 1e9, NULL, "samples", "test samples"},
    {"structure", OPTION_FLOAT, AT(structure), "0.5", 0, 1, NULL, NULL,
     "how often a token is followed by its successor and not by any"},
    {"seed", OPTION_INT, AT(seed), "1", 0, 9e15, NULL, NULL, "seeds successors and samples"},
};
#undef AT

static const struct option_table table = {"dataset drawn-tokens", "tokens drawn from a seed", options,
                                          sizeof options / sizeof *options, sizeof(struct drawn_options)};

/* One of 0 .. vocabulary - 1; see above. */
static uint32_t draw(struct random *random, uint32_t vocabulary) {
    uint32_t classes = 32 - (uint32_t)__builtin_clz(vocabulary); /* the last one may be cut */
    for (;;) {
        uint32_t size = 1u << random_below(random, classes);
        uint64_t token = size - 1 + random_below(random, size);
        if (token < vocabulary)
            return (uint32_t)token;
    }
}

static uint32_t successor_of(const struct drawn_dataset *data, uint32_t token) {
    struct random random;
    random_init_stream(&random, random_mix(data->seed, 2), token);
    return draw(&random, data->base.info.classes);
}

/* tokens and labels [context]: the labels are one ahead. */
static void draw_sample(const struct drawn_dataset *data, uint64_t stream, uint64_t index, int32_t *tokens,
                        int32_t *labels) {
    struct random random;
    uint32_t context = data->base.info.context, token;
    random_init_stream(&random, stream, index);
    token = draw(&random, data->base.info.classes);
    for (uint32_t i = 0; i < context; i++) {
        tokens[i] = (int32_t)token;
        bool follows = random_below(&random, 1 << 24) < data->often;
        token = follows ? successor_of(data, token) : draw(&random, data->base.info.classes);
        labels[i] = (int32_t)token;
    }
}

static void drawn_close(struct dataset *dataset) {
    free(dataset);
}

static enum lg_status drawn_open(const void *option_values, struct dataset **out, struct lg_error *error) {
    const struct drawn_options *o = option_values;
    struct drawn_dataset *data = calloc(1, sizeof *data);
    if (!data)
        return lg_fail(error, LG_NO_MEMORY, "no memory for dataset \"drawn-tokens\"");
    uint64_t print = fingerprint_bytes(0, "drawn-tokens1", 13);
    print = fingerprint_number(fingerprint_number(print, (double)o->vocabulary), (double)o->context);
    print = fingerprint_number(fingerprint_number(print, (double)o->train_samples), (double)o->test_samples);
    print = fingerprint_number(fingerprint_number(print, o->structure), (double)o->seed);
    *data = (struct drawn_dataset){
        .base = {.kind = &dataset_drawn_tokens,
                 .info = {.form = DATASET_TOKENS,
                          .train_samples = (uint64_t)o->train_samples,
                          .test_samples = (uint64_t)o->test_samples,
                          .classes = (uint32_t)o->vocabulary,
                          .context = (uint32_t)o->context,
                          .fingerprint = print}},
        .seed = (uint64_t)o->seed,
        .often = (uint32_t)(o->structure * (1 << 24)),
    };
    *out = &data->base;
    return LG_OK;
}

static enum lg_status drawn_read(struct dataset *dataset, enum dataset_split split, uint64_t epoch,
                                 const uint64_t *indices, uint32_t count, struct batch *batch, struct lg_error *error) {
    const struct drawn_dataset *data = (const struct drawn_dataset *)dataset;
    size_t context = dataset->info.context;
    uint64_t stream = split == DATASET_TEST ? random_mix(data->seed, 1) : random_mix(random_mix(data->seed, 0), epoch);
    enum lg_status status = batch_reserve_tokens(batch, count, dataset->info.context, error);
    for (uint32_t i = 0; status == LG_OK && i < count; i++)
        draw_sample(data, stream, indices[i], batch->tokens + i * context, batch->labels + i * context);
    return status;
}

const struct dataset_kind dataset_drawn_tokens = {
    .name = "drawn-tokens",
    .summary = "tokens with Zipf's frequencies and something to learn, drawn from a seed; needs no files",
    .options = &table,
    .open = drawn_open,
    .read = drawn_read,
    .close = drawn_close,
};
