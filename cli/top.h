/* lagoon top: what it knows (top_data.c, from the coordinator's document) and how that is shown (top_lines.c, text
 * lines for a window). Neither talks to anybody, so tests feed them by hand. */
#ifndef LAGOON_CLI_TOP_H
#define LAGOON_CLI_TOP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { TOP_TEXT_BYTES = 96, TOP_ENDED_SHOWN = 3 /* jobs that have ended, the newest */ };

/* Numbers that are not known are NAN; they are shown as "-". Shares are 0 to 1. */
struct top_job {
    long long id, epoch, epochs, trainers;
    char name[TOP_TEXT_BYTES], state[TOP_TEXT_BYTES];
    bool live;
    double done, samples_per_second, tokens_per_second, utilisation /* of the devices' FLOPs */, loss;
    double staleness_mean, staleness_max;
};
struct top_trainer {
    long long number, job;
    char job_name[TOP_TEXT_BYTES], worker[TOP_TEXT_BYTES], device[TOP_TEXT_BYTES], state[TOP_TEXT_BYTES];
    char via[TOP_TEXT_BYTES];
    double samples_per_second, tokens_per_second;
    double compute, read, copy, wait, send; /* shares of its time, lately */
    double staleness, weight, memory_bytes;
};
struct top_device {
    char worker[TOP_TEXT_BYTES], device[TOP_TEXT_BYTES];
    char name[TOP_TEXT_BYTES]; /* where its worker is not alive: that worker's state */
    bool alive;
    double used_bytes, total_bytes, utilisation, temperature_c, power_w;
};
struct top_shard {
    long long number;
    char server[TOP_TEXT_BYTES], state[TOP_TEXT_BYTES];
    double memory_bytes, pushes_per_second, pulls_per_second, bytes_per_second;
    long long version; /* of its job's values, (epoch, counter); 0: not known, or there are several jobs */
};

struct top {
    char head[4 * TOP_TEXT_BYTES]; /* the cluster in a line */
    char lost[4 * TOP_TEXT_BYTES]; /* the coordinator does not answer; "": it does */
    struct top_job *jobs;          /* those that live first */
    struct top_trainer *trainers;  /* by job, then number */
    struct top_device *devices;
    struct top_shard *shards;
    size_t job_count, trainer_count, device_count, shard_count;
};

/* Takes over what the "stats" document says and leaves `lost` alone; what it lacks is not known. False without memory:
 * then *top is as before. Zeroed is empty. */
bool top_read(struct top *top, const json_t *stats);
void top_deinit(struct top *top);

struct top_window {
    int width, height; /* in characters; 0: as much as it takes */
    bool colour;
};

/* Writes the lines of *top that fit into the window, each with a newline but for the last of a full window: sections
 * share the height fairly and say how much they leave out, columns that matter least go first. */
void top_write(const struct top *top, const struct top_window *window, FILE *out);

#endif
