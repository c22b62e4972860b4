/* A mixture of Gaussians: the dataset for experiments on optimization, where what matters is that nothing else does.
 *
 * Every component has a mean, drawn from N(0, spread^2) for each feature, and the class (component mod classes). A
 * sample is the mean of its component plus N(0, noise^2); sample i is of component i mod components, so all are equally
 * frequent. How far components overlap, and so the best accuracy there can be, follows from spread / noise. All samples
 * are drawn when the dataset is opened. */
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "worker/dataset.h"
#include "worker/datasets/input.h"

struct mixture_options {
    int64_t components, classes, features, train_samples, test_samples, seed;
    double spread, noise;
};

struct mixture_dataset {
    struct dataset base;
    uint64_t components;
    uint32_t features, classes;
    float *samples[2]; /* [samples of the split][features] */
};

#define AT(field) offsetof(struct mixture_options, field)

static const struct option options[] = {
    {"components", OPTION_INT, AT(components), "60", 1, 100000, NULL, NULL, "Gaussians, shared evenly by the classes"},
    {"classes", OPTION_INT, AT(classes), "10", 2, 10000, NULL, NULL, "classes"},
    {"features", OPTION_INT, AT(features), "64", 1, 65536, NULL, NULL, "features of a sample"},
    {"train_samples", OPTION_INT, AT(train_samples), "20000", 1, 1e7, NULL, "samples", "training samples"},
    {"test_samples", OPTION_INT, AT(test_samples), "4000", 0, 1e7, NULL, "samples", "test samples"},
    {"spread", OPTION_FLOAT, AT(spread), "0.55", 0, 1000, NULL, NULL,
     "deviation of the components' means, per feature"},
    {"noise", OPTION_FLOAT, AT(noise), "1", 0, 1000, NULL, NULL, "deviation of samples around their mean, per feature"},
    {"seed", OPTION_INT, AT(seed), "1", 0, 9e15, NULL, NULL, "seeds means and samples"},
};

static const struct option_table table = {"dataset mixture", "a mixture of Gaussians", options,
                                          sizeof options / sizeof *options, sizeof(struct mixture_options)};

static void draw_means(const struct mixture_options *o, float *means) {
    for (int64_t c = 0; c < o->components; c++) {
        struct random random;
        random_init_stream(&random, random_mix((uint64_t)o->seed, 2), (uint64_t)c);
        for (int64_t i = 0; i < o->features; i++)
            means[c * o->features + i] = (float)o->spread * random_normal(&random);
    }
}

static float *draw_split(const struct mixture_options *o, const float *means, uint64_t split, int64_t count) {
    float *samples = malloc(((size_t)count * (size_t)o->features + 1) * sizeof *samples);
    for (int64_t s = 0; samples && s < count; s++) {
        const float *mean = means + s % o->components * o->features;
        struct random random;
        random_init_stream(&random, random_mix((uint64_t)o->seed, split), (uint64_t)s);
        for (int64_t i = 0; i < o->features; i++)
            samples[s * o->features + i] = mean[i] + (float)o->noise * random_normal(&random);
    }
    return samples;
}

static uint64_t fingerprint(const struct mixture_options *o) {
    uint64_t print = fingerprint_bytes(0, "mixture1", 8);
    print = fingerprint_number(print, (double)o->components);
    print = fingerprint_number(print, (double)o->classes);
    print = fingerprint_number(print, (double)o->features);
    print = fingerprint_number(print, (double)o->train_samples);
    print = fingerprint_number(print, (double)o->test_samples);
    print = fingerprint_number(print, (double)o->seed);
    print = fingerprint_number(print, o->spread);
    return fingerprint_number(print, o->noise);
}

static void mixture_close(struct dataset *dataset) {
    struct mixture_dataset *data = (struct mixture_dataset *)dataset;
    free(data->samples[0]);
    free(data->samples[1]);
    free(data);
}

static enum lg_status mixture_open(const void *option_values, struct dataset **out, struct lg_error *error) {
    const struct mixture_options *o = option_values;
    struct mixture_dataset *data = calloc(1, sizeof *data);
    float *means = calloc((size_t)o->components * (size_t)o->features, sizeof *means);
    if (!data || !means) {
        free(means);
        free(data);
        return lg_fail(error, LG_NO_MEMORY, "no memory for dataset \"mixture\"");
    }
    data->base.kind = &dataset_mixture;
    data->components = (uint64_t)o->components;
    data->features = (uint32_t)o->features;
    data->classes = (uint32_t)o->classes;
    draw_means(o, means);
    data->samples[DATASET_TRAIN] = draw_split(o, means, DATASET_TRAIN, o->train_samples);
    data->samples[DATASET_TEST] = draw_split(o, means, DATASET_TEST, o->test_samples);
    free(means);
    if (!data->samples[DATASET_TRAIN] || !data->samples[DATASET_TEST]) {
        mixture_close(&data->base);
        return lg_fail(error, LG_NO_MEMORY,
                       "no memory for the samples of dataset \"mixture\": lower dataset.train_samples, or "
                       "dataset.features");
    }
    data->base.info = (struct dataset_info){
        .form = DATASET_DENSE,
        .train_samples = (uint64_t)o->train_samples,
        .test_samples = (uint64_t)o->test_samples,
        .width = data->features,
        .classes = data->classes,
        .fingerprint = fingerprint(o),
    };
    *out = &data->base;
    return LG_OK;
}

static enum lg_status mixture_read(struct dataset *dataset, enum dataset_split split, uint64_t epoch,
                                   const uint64_t *indices, uint32_t count, struct batch *batch,
                                   struct lg_error *error) {
    const struct mixture_dataset *data = (const struct mixture_dataset *)dataset;
    enum lg_status status = batch_reserve_dense(batch, count, data->features, error);
    (void)epoch;
    for (uint32_t i = 0; status == LG_OK && i < count; i++) {
        memcpy(batch->features + (size_t)i * data->features, data->samples[split] + indices[i] * data->features,
               data->features * sizeof(float));
        batch->labels[i] = (int32_t)(indices[i] % data->components % data->classes);
    }
    return status;
}

const struct dataset_kind dataset_mixture = {
    .name = "mixture",
    .summary = "a mixture of Gaussians, drawn from a seed; needs no files",
    .options = &table,
    .open = mixture_open,
    .read = mixture_read,
    .close = mixture_close,
};
