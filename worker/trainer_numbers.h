/* What a trainer tells its agent while it runs, on file descriptor 3, one line at a time:
 *
 *     numbers state=training steps=120 samples=3840 loss=0.412 accuracy=0.87 compute_ns=.. communication_ns=.. rate=..
 *     reason the dataset file "x" ends after 12 bytes
 *
 * `reason` is said once, before an exit that is not a success: it becomes the exit reason that people read. */
#ifndef LAGOON_WORKER_TRAINER_NUMBERS_H
#define LAGOON_WORKER_TRAINER_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRAINER_NUMBERS_FD = 3, TRAINER_LINE_BYTES_MAX = 512, TRAINER_STATE_BYTES = 24 };

struct trainer_numbers {
    char state[TRAINER_STATE_BYTES]; /* "joining", "training", "evaluating", ...: no spaces */
    uint64_t steps, samples;
    double loss, accuracy; /* smoothed; 0 before the first step */
    uint64_t compute_ns, communication_ns;
    double samples_per_second;
};

/* Writes the line, newline included, and returns its length. */
size_t trainer_numbers_write(const struct trainer_numbers *numbers, char line[TRAINER_LINE_BYTES_MAX]);
/* Reads a line (without newline). False when it is no numbers line or has a bad value; then *numbers is as before.
 * Words it does not know are passed over. Loss and accuracy that are not finite become 0. */
bool trainer_numbers_read(const char *line, struct trainer_numbers *numbers);

#endif
