#include "worker/trainer_numbers.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The words of a line but for the state, which comes first. */
#define COUNT(word, field)                                                                                             \
    { word, offsetof(struct trainer_numbers, field), false }
#define REAL(word, field)                                                                                              \
    { word, offsetof(struct trainer_numbers, field), true }
static const struct word {
    const char *key;
    size_t at;
    bool real; /* a double, else a uint64_t */
} words[] = {
    COUNT("steps", steps),
    COUNT("samples", samples),
    REAL("loss", loss),
    REAL("accuracy", accuracy),
    COUNT("compute_ns", compute_ns),
    COUNT("communication_ns", communication_ns),
    REAL("rate", samples_per_second),
    COUNT("pushes", pushes),
    COUNT("dropped", dropped),
    COUNT("staleness_max", staleness_max),
    REAL("staleness_mean", staleness_mean),
    REAL("weight_mean", weight_mean),
    COUNT("read_ns", read_ns),
    COUNT("copy_ns", copy_ns),
    COUNT("copy_bytes", copy_bytes),
    COUNT("wait_ns", wait_ns),
    REAL("tokens_rate", tokens_per_second),
    REAL("flops_rate", flops_per_second),
    REAL("flops_peak", flops_peak),
    COUNT("memory_used_bytes", memory_used_bytes),
};
enum { WORDS = sizeof words / sizeof *words, WORD_BYTES_MAX = 40 /* the longest key, '=', 20 digits, a space */ };
static_assert(WORDS * WORD_BYTES_MAX + TRAINER_STATE_BYTES + 32 < TRAINER_LINE_BYTES_MAX, "a line always fits");

size_t trainer_numbers_write(const struct trainer_numbers *numbers, char line[TRAINER_LINE_BYTES_MAX]) {
    size_t used = (size_t)snprintf(line, TRAINER_LINE_BYTES_MAX, "numbers state=%s", numbers->state);
    for (size_t i = 0; i < WORDS; i++) {
        const char *field = (const char *)numbers + words[i].at;
        uint64_t count = 0;
        double real = 0;
        if (words[i].real) {
            memcpy(&real, field, sizeof real);
            used += (size_t)snprintf(line + used, TRAINER_LINE_BYTES_MAX - used, " %s=%.6g", words[i].key, real);
        } else {
            memcpy(&count, field, sizeof count);
            used += (size_t)snprintf(line + used, TRAINER_LINE_BYTES_MAX - used, " %s=%" PRIu64, words[i].key, count);
        }
    }
    line[used++] = '\n';
    line[used] = '\0';
    return used;
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
    uint64_t count = 0;
    double real = 0;
    size_t i = 0;
    if (strcmp(key, "state") == 0)
        return read_state(value, numbers->state);
    while (i < WORDS && strcmp(key, words[i].key) != 0)
        i++;
    if (i == WORDS)
        return true;
    if (words[i].real ? !read_real(value, &real) : !read_count(value, &count))
        return false;
    if (words[i].real)
        memcpy((char *)numbers + words[i].at, &real, sizeof real);
    else
        memcpy((char *)numbers + words[i].at, &count, sizeof count);
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
