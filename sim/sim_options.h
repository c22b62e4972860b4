/* The `sim.*` keys of an experiment: the machines and the network that are pretended, and how long. */
#ifndef LAGOON_SIM_SIM_OPTIONS_H
#define LAGOON_SIM_SIM_OPTIONS_H

#include "common/config.h"
#include "common/option.h"

enum { SIM_CLASSES_MAX = 32, SIM_WORKERS_MAX = 100000, SIM_SHARDS_MAX = 64 };

struct sim_options {
    char workers[OPTION_TEXT_BYTES];
    struct option_ints seeds;
    int64_t shards;
    char start[OPTION_TEXT_BYTES], start_at[OPTION_TEXT_BYTES];
    double step_time, step_sigma, step_shape; /* s */
    char distribution[OPTION_TEXT_BYTES], trace[OPTION_TEXT_BYTES];
    char delay[OPTION_TEXT_BYTES], bandwidth[OPTION_TEXT_BYTES];
    double server_bandwidth; /* bytes/s of each shard, both ways; 0: no limit */
    char loss_every[OPTION_TEXT_BYTES];
    double loss_away; /* s */
    int64_t notice_ms;
    bool sequential;
    char control[OPTION_TEXT_BYTES];
    int64_t stop_samples, stop_updates; /* 0: no such limit */
    double stop_time, stop_accuracy, target;
    int64_t evaluate_every;
};

extern const struct option_table sim_table;

/* Workers that are alike. */
struct sim_class {
    uint32_t count;
    double slowness;               /* times the step time */
    double delay_s, bandwidth;     /* one way; bytes/s, 0: no limit */
    double start_s, loss_every_s;  /* 0: never */
    char trace[OPTION_TEXT_BYTES]; /* file of step times, or "" */
};

struct sim_classes {
    struct sim_class classes[SIM_CLASSES_MAX];
    size_t count;
    uint32_t workers;
};

/* Reads the keys below "sim." and checks them against each other; errors start with the place of the key. */
LG_MUST_CHECK enum lg_status sim_configure(struct config *config, struct sim_options *options,
                                           struct sim_classes *classes, struct lg_error *error);

/* LG_INVALID where the options do not go together with the job's consistency.mode. */
LG_MUST_CHECK enum lg_status sim_check_mode(const struct sim_options *options, const char *mode,
                                            struct lg_error *error);

#endif
