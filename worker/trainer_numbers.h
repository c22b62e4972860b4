/* What a trainer tells its agent while it runs, on file descriptor 3, one line at a time:
 *
 *     numbers state=training steps=120 samples=3840 loss=0.412 accuracy=0.87 compute_ns=.. communication_ns=.. rate=..
 *     pushes 3:0.5 0:1
 *     reason the dataset file "x" ends after 12 bytes
 *
 * `pushes`: staleness and weight of each push since the line before, the largest and the least over its shards.
 * `reason` is said once, before an exit that is not a success: it becomes the exit reason that people read. */
#ifndef LAGOON_WORKER_TRAINER_NUMBERS_H
#define LAGOON_WORKER_TRAINER_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TRAINER_NUMBERS_FD = 3,
    TRAINER_LINE_BYTES_MAX = 1024,
    TRAINER_STATE_BYTES = 24,
    TRAINER_PUSHES_MAX = 14, /* in one line */
};

struct trainer_push {
    uint64_t staleness;
    double weight;
};

struct trainer_numbers {
    char state[TRAINER_STATE_BYTES]; /* "joining", "training", "evaluating", ...: no spaces */
    uint64_t steps, samples;
    double loss, accuracy; /* smoothed; 0 before the first step */
    uint64_t compute_ns, communication_ns;
    double samples_per_second;
    uint64_t pushes, dropped, staleness_max; /* answered; of these: given weight zero */
    double staleness_mean, weight_mean;
    uint64_t read_ns, copy_ns;  /* of compute_ns: batches; copies between host and device, where they held it up */
    uint64_t copy_bytes;        /* all that was copied between host and device */
    uint64_t wait_ns;           /* of communication_ns: for shards and leases */
    double tokens_per_second;   /* language models; 0 for others */
    double flops_per_second;    /* of the model's products; 0: unknown */
    double flops_peak;          /* of the device; 0: unknown */
    uint64_t memory_used_bytes; /* of the device, by this trainer; 0: unknown */
};

/* Writes the line, newline included, and returns its length. */
size_t trainer_numbers_write(const struct trainer_numbers *numbers, char line[TRAINER_LINE_BYTES_MAX]);
/* Reads a line (without newline). False when it is no numbers line or has a bad value; then *numbers is as before.
 * Words it does not know are passed over. Loss and accuracy that are not finite become 0. */
bool trainer_numbers_read(const char *line, struct trainer_numbers *numbers);
/* The same for a line of pushes: how many there are, at most TRAINER_PUSHES_MAX; 0: it is no such line, or has a bad
 * value. */
size_t trainer_pushes_write(const struct trainer_push *pushes, size_t count, char line[TRAINER_LINE_BYTES_MAX]);
size_t trainer_pushes_read(const char *line, struct trainer_push pushes[TRAINER_PUSHES_MAX]);

#endif
