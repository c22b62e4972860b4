/* The registered kinds, and the option structs behind the `model.*` keys of each kind, for its file and for tests. */
#ifndef LAGOON_WORKER_MODELS_MODELS_H
#define LAGOON_WORKER_MODELS_MODELS_H

#include "common/option.h"
#include "worker/model.h"

#define X(name) extern const struct model_kind model_##name;
#include "worker/model.def"
#undef X

struct softmax_options {
    char unused; /* softmax regression has no options */
};

struct mlp_options {
    struct option_ints hidden;
    char activation[OPTION_TEXT_BYTES];
};

struct cnn_options {
    struct option_ints filters; /* of the two convolutions */
    int64_t kernel, hidden;
};

struct gpt_options {
    int64_t layers, width, heads;
};

struct quadratic_options {
    char curvatures[OPTION_TEXT_BYTES];
    int64_t size;
    double start, noise;
};

#endif
