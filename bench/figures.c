#include "bench/figures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct figure *find(const struct figures *figures, const char *name) {
    for (size_t i = 0; i < figures->count; i++)
        if (strcmp(figures->list[i].name, name) == 0)
            return &figures->list[i];
    return NULL;
}

const struct figure *figures_find(const struct figures *figures, const char *name) {
    return find(figures, name);
}

enum lg_status figures_add(struct figures *figures, const char *name, const char *unit, double value,
                           struct lg_error *error) {
    struct figure *figure = find(figures, name);
    if (!figure && figures->count == figures->capacity) {
        size_t capacity = figures->capacity ? 2 * figures->capacity : 64;
        struct figure *list = realloc(figures->list, capacity * sizeof *list);
        if (!list)
            return lg_fail(error, LG_NO_MEMORY, "no memory for another figure");
        figures->list = list;
        figures->capacity = capacity;
    }
    if (!figure) {
        figure = &figures->list[figures->count++];
        *figure = (struct figure){.unit = unit};
        snprintf(figure->name, sizeof figure->name, "%s", name);
    }
    if (figure->count < FIGURE_ROUNDS_MAX)
        figure->values[figure->count++] = value;
    return LG_OK;
}

void figures_deinit(struct figures *figures) {
    free(figures->list);
    *figures = (struct figures){0};
}

static int compare(const void *left, const void *right) {
    const double *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

/* Between the two nearest values of the sorted series. */
static double quantile(const double *sorted, size_t count, double at) {
    double place = at * (double)(count - 1);
    size_t below = (size_t)place, above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (place - (double)below) * (sorted[above] - sorted[below]);
}

struct spread spread_of(const double *values, size_t count) {
    double sorted[FIGURE_ROUNDS_MAX];
    if (count == 0)
        return (struct spread){0};
    count = count < FIGURE_ROUNDS_MAX ? count : FIGURE_ROUNDS_MAX;
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare);
    return (struct spread){.median = quantile(sorted, count, 0.5),
                           .low = quantile(sorted, count, 0.25),
                           .high = quantile(sorted, count, 0.75),
                           .least = sorted[0],
                           .most = sorted[count - 1],
                           .count = count};
}

size_t figures_divide(const struct figure *above, const struct figure *below, double values[FIGURE_ROUNDS_MAX]) {
    size_t count = above->count < below->count ? above->count : below->count;
    for (size_t i = 0; i < count; i++)
        values[i] = above->values[i] / below->values[i];
    return count;
}
