#include "worker/trainer_numbers.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t trainer_numbers_write(const struct trainer_numbers *numbers, char line[TRAINER_LINE_BYTES_MAX]) {
    int used = snprintf(line, TRAINER_LINE_BYTES_MAX,
                        "numbers state=%s steps=%" PRIu64 " samples=%" PRIu64 " loss=%.6g accuracy=%.6g "
                        "compute_ns=%" PRIu64 " communication_ns=%" PRIu64 " rate=%.6g pushes=%" PRIu64
                        " dropped=%" PRIu64 " staleness_max=%" PRIu64 " staleness_mean=%.6g weight_mean=%.6g\n",
                        numbers->state, numbers->steps, numbers->samples, numbers->loss, numbers->accuracy,
                        numbers->compute_ns, numbers->communication_ns, numbers->samples_per_second, numbers->pushes,
                        numbers->dropped, numbers->staleness_max, numbers->staleness_mean, numbers->weight_mean);
    return (size_t)used; /* twelve numbers and a short word always fit */
}

static bool read_count(const char *text, uint64_t *out) {
    char *end = NULL;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !errno && *end == '\0';
}

static bool read_real(const char *text, double *out) {
    char *end = NULL;
    *out = strtod(text, &end);
    if (!isfinite(*out))
        *out = 0;
    return *text && *end == '\0';
}

static bool read_state(const char *text, char state[TRAINER_STATE_BYTES]) {
    if (strlen(text) >= TRAINER_STATE_BYTES)
        return false;
    memcpy(state, text, strlen(text) + 1);
    return true;
}

static bool read_word(const char *key, const char *value, struct trainer_numbers *numbers) {
    if (strcmp(key, "state") == 0)
        return read_state(value, numbers->state);
    if (strcmp(key, "steps") == 0)
        return read_count(value, &numbers->steps);
    if (strcmp(key, "samples") == 0)
        return read_count(value, &numbers->samples);
    if (strcmp(key, "loss") == 0)
        return read_real(value, &numbers->loss);
    if (strcmp(key, "accuracy") == 0)
        return read_real(value, &numbers->accuracy);
    if (strcmp(key, "compute_ns") == 0)
        return read_count(value, &numbers->compute_ns);
    if (strcmp(key, "communication_ns") == 0)
        return read_count(value, &numbers->communication_ns);
    if (strcmp(key, "rate") == 0)
        return read_real(value, &numbers->samples_per_second);
    if (strcmp(key, "pushes") == 0)
        return read_count(value, &numbers->pushes);
    if (strcmp(key, "dropped") == 0)
        return read_count(value, &numbers->dropped);
    if (strcmp(key, "staleness_max") == 0)
        return read_count(value, &numbers->staleness_max);
    if (strcmp(key, "staleness_mean") == 0)
        return read_real(value, &numbers->staleness_mean);
    if (strcmp(key, "weight_mean") == 0)
        return read_real(value, &numbers->weight_mean);
    return true;
}

bool trainer_numbers_read(const char *line, struct trainer_numbers *numbers) {
    struct trainer_numbers fresh = *numbers;
    char copy[TRAINER_LINE_BYTES_MAX], *rest = copy, *word;
    if (strncmp(line, "numbers ", 8) != 0 || strlen(line) >= sizeof copy)
        return false;
    memcpy(copy, line + 8, strlen(line + 8) + 1);
    while ((word = strsep(&rest, " "))) {
        char *value = strchr(word, '=');
        if (!value)
            return false;
        *value++ = '\0';
        if (!read_word(word, value, &fresh))
            return false;
    }
    *numbers = fresh;
    return true;
}

size_t trainer_pushes_write(const struct trainer_push *pushes, size_t count, char line[TRAINER_LINE_BYTES_MAX]) {
    size_t used = (size_t)snprintf(line, TRAINER_LINE_BYTES_MAX, "pushes");
    for (size_t i = 0; i < count && i < TRAINER_PUSHES_MAX; i++)
        used += (size_t)snprintf(line + used, TRAINER_LINE_BYTES_MAX - used, " %" PRIu64 ":%.5g", pushes[i].staleness,
                                 pushes[i].weight);
    used += (size_t)snprintf(line + used, TRAINER_LINE_BYTES_MAX - used, "\n");
    return used; /* of 14 pushes, 34 bytes each at most */
}

static bool read_push(char *word, struct trainer_push *push) {
    char *colon = strchr(word, ':');
    if (!colon)
        return false;
    *colon = '\0';
    return read_count(word, &push->staleness) && read_real(colon + 1, &push->weight);
}

size_t trainer_pushes_read(const char *line, struct trainer_push pushes[TRAINER_PUSHES_MAX]) {
    char copy[TRAINER_LINE_BYTES_MAX], *rest = copy, *word;
    size_t count = 0;
    if (strncmp(line, "pushes ", 7) != 0 || strlen(line) >= sizeof copy)
        return 0;
    memcpy(copy, line + 7, strlen(line + 7) + 1);
    while ((word = strsep(&rest, " ")))
        if (count == TRAINER_PUSHES_MAX || !read_push(word, &pushes[count++]))
            return 0;
    return count;
}
