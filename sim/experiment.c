#include "sim/experiment.h"

#include <stdlib.h>
#include <string.h>

#include "sim/step_times.h"

enum { VALUES_MAX = 256 };

/* One thing that is varied. */
struct axis {
    char key[OPTION_TEXT_BYTES]; /* "" for the variants */
    char *values[VALUES_MAX];
    size_t count;
    char place[OPTION_TEXT_BYTES];
};

struct axes {
    struct axis list[EXPERIMENT_AXES_MAX];
    size_t count;
};

static const char grid[] = "grid.", variants[] = "variants.";

static bool begins(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

/* Copies an entry with the place it came from. */
static enum lg_status copy_entry(struct config *to, const struct config_entry *entry, const char *key,
                                 const char *value, struct lg_error *error) {
    char place[OPTION_TEXT_BYTES];
    config_place(entry, place, sizeof place);
    return config_set(to, key, value, place, error);
}

/* ---- reading the axes */

static enum lg_status axis_add_value(struct axis *axis, const char *value, size_t length, struct lg_error *error) {
    if (axis->count == VALUES_MAX)
        return lg_fail(error, LG_INVALID, "%s: more than %d values", axis->place, VALUES_MAX);
    axis->values[axis->count] = strndup(value, length);
    if (!axis->values[axis->count])
        return lg_fail(error, LG_NO_MEMORY, "no memory for the grid");
    axis->count++;
    return LG_OK;
}

static struct axis *axis_add(struct axes *axes, const struct config_entry *entry, const char *key,
                             struct lg_error *error) {
    char place[OPTION_TEXT_BYTES];
    config_place(entry, place, sizeof place);
    if (axes->count == EXPERIMENT_AXES_MAX) {
        lg_fail(error, LG_INVALID, "%s: more than %d keys are varied", place, EXPERIMENT_AXES_MAX);
        return NULL;
    }
    struct axis *axis = &axes->list[axes->count++];
    snprintf(axis->key, sizeof axis->key, "%s", key);
    memcpy(axis->place, place, sizeof place);
    return axis;
}

static enum lg_status read_grid(struct axes *axes, const struct config_entry *entry, struct lg_error *error) {
    const char *key = entry->key + strlen(grid);
    enum lg_status status = LG_OK;
    struct axis *axis = axis_add(axes, entry, key, error);
    if (!axis)
        return error ? error->status : LG_INVALID;
    if (strcmp(key, "sim.seeds") == 0)
        return lg_fail(error, LG_INVALID, "%s: seeds are listed in sim.seeds; each cell runs with all", axis->place);
    for (const char *at = entry->value; status == LG_OK && *at;) {
        at += strspn(at, " ,");
        size_t length = strcspn(at, ",");
        const char *next = at + length;
        while (length > 0 && at[length - 1] == ' ')
            length--;
        if (length > 0)
            status = axis_add_value(axis, at, length, error);
        at = next;
    }
    if (status == LG_OK && axis->count == 0)
        status = lg_fail(error, LG_INVALID, "%s: %s has no values", axis->place, entry->key);
    return status;
}

/* The names, in the order in which they first appear. */
static enum lg_status read_variant(struct axes *axes, struct axis **axis, const struct config_entry *entry,
                                   struct lg_error *error) {
    const char *name = entry->key + strlen(variants);
    size_t length = strcspn(name, ".");
    char place[OPTION_TEXT_BYTES];
    config_place(entry, place, sizeof place);
    if (name[length] != '.')
        return lg_fail(error, LG_INVALID,
                       "%s: variant \"%s\" should set keys: \"variants.%s.staleness.policy: inverse\"", place, name,
                       name);
    if (!*axis && !(*axis = axis_add(axes, entry, "", error)))
        return error ? error->status : LG_INVALID;
    for (size_t i = 0; i < (*axis)->count; i++)
        if (strlen((*axis)->values[i]) == length && strncmp((*axis)->values[i], name, length) == 0)
            return LG_OK;
    return axis_add_value(*axis, name, length, error);
}

static enum lg_status read_axes(const struct config *base, struct axes *axes, struct lg_error *error) {
    enum lg_status status = LG_OK;
    struct axis *variant = NULL;
    for (size_t i = 0; status == LG_OK && i < base->count; i++) /* variants vary slowest */
        if (begins(base->entries[i].key, variants))
            status = read_variant(axes, &variant, &base->entries[i], error);
    for (size_t i = 0; status == LG_OK && i < base->count; i++)
        if (begins(base->entries[i].key, grid))
            status = read_grid(axes, &base->entries[i], error);
    return status;
}

static void axes_free(struct axes *axes) {
    for (size_t i = 0; i < axes->count; i++)
        for (size_t k = 0; k < axes->list[i].count; k++)
            free(axes->list[i].values[k]);
    free(axes);
}

/* ---- making the cells */

static enum lg_status copy_base(struct config *to, const struct config *base, struct lg_error *error) {
    enum lg_status status = LG_OK;
    for (size_t i = 0; status == LG_OK && i < base->count; i++) {
        const struct config_entry *entry = &base->entries[i];
        if (!begins(entry->key, grid) && !begins(entry->key, variants))
            status = copy_entry(to, entry, entry->key, entry->value, error);
    }
    return status;
}

static enum lg_status apply_variant(struct config *to, const struct config *base, const char *name,
                                    struct lg_error *error) {
    char prefix[OPTION_TEXT_BYTES];
    enum lg_status status = LG_OK;
    snprintf(prefix, sizeof prefix, "%s%s.", variants, name);
    for (size_t i = 0; status == LG_OK && i < base->count; i++)
        if (begins(base->entries[i].key, prefix))
            status =
                copy_entry(to, &base->entries[i], base->entries[i].key + strlen(prefix), base->entries[i].value, error);
    return status;
}

static enum lg_status make_cell(const struct experiment *experiment, const struct axes *axes, size_t number,
                                struct experiment_cell *cell, struct lg_error *error) {
    enum lg_status status = LG_OK;
    size_t places[EXPERIMENT_AXES_MAX] = {0};
    for (size_t i = axes->count; i-- > 0; number /= axes->list[i].count)
        places[i] = number % axes->list[i].count;
    cell->config = config_new();
    cell->varied = json_object();
    cell->runs = calloc(experiment->seed_count, sizeof *cell->runs);
    if (!cell->config || !cell->varied || !cell->runs)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the cells");
    status = copy_base(cell->config, experiment->base, error);
    for (size_t i = 0; status == LG_OK && i < axes->count; i++) {
        const struct axis *axis = &axes->list[i];
        const char *value = axis->values[places[i]];
        size_t length = strlen(cell->label);
        if (axis->key[0])
            status = config_set(cell->config, axis->key, value, axis->place, error);
        else
            status = apply_variant(cell->config, experiment->base, value, error);
        const char *last = strrchr(axis->key, '.');
        bool named = strcmp(axis->key, "staleness.policy") == 0 || strcmp(axis->key, "consistency.mode") == 0 ||
                     !axis->key[0]; /* these values speak for themselves */
        snprintf(cell->label + length, sizeof cell->label - length, "%s%s%s%s", length ? ", " : "",
                 named                               ? ""
                 : strncmp(axis->key, "lr.", 3) == 0 ? "lr"
                 : last                              ? last + 1
                                                     : axis->key,
                 named ? "" : " ", value);
        json_object_set_new(cell->varied, axis->key[0] ? axis->key : "variant", json_string(value));
    }
    return status;
}

/* ---- checking a cell */

static enum lg_status split(const struct config *from, struct config **job, struct config **sim,
                            struct lg_error *error) {
    enum lg_status status = LG_OK;
    *job = config_new();
    *sim = config_new();
    if (!*job || !*sim)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the options");
    for (size_t i = 0; status == LG_OK && i < from->count; i++) {
        const struct config_entry *entry = &from->entries[i];
        status = copy_entry(begins(entry->key, "sim.") ? *sim : *job, entry, entry->key, entry->value, error);
    }
    return status;
}

static enum lg_status check_cell(const struct experiment_cell *cell, experiment_check_fn *check,
                                 struct sim_options *options, struct lg_error *error) {
    static const struct option_table *const tables[] = {&sim_table};
    static const char *const prefixes[] = {"sim."};
    struct config *job = NULL, *sim = NULL;
    struct sim_classes classes;
    enum lg_status status = split(cell->config, &job, &sim, error);
    if (status == LG_OK)
        status = sim_configure(sim, options, &classes, error);
    if (status == LG_OK)
        status = option_check_unused(sim, tables, prefixes, 1, error);
    if (status == LG_OK)
        status = sim_check_mode(options, config_text(job, "consistency.mode", "async"), error);
    for (size_t i = 0; status == LG_OK && i < classes.count; i++) {
        struct step_times times; /* reads traces */
        status = step_times_init(&times, options, &classes.classes[i], error);
        step_times_deinit(&times);
    }
    if (status == LG_OK && check)
        status = check(job, error);
    config_free(job);
    config_free(sim);
    return status;
}

/* ---- loading */

static enum lg_status override(struct config *config, const char *text, struct lg_error *error) {
    const char *equals = strchr(text, '=');
    char key[OPTION_TEXT_BYTES];
    if (!equals || equals == text || (size_t)(equals - text) >= sizeof key)
        return lg_fail(error, LG_INVALID, "\"%s\" should be KEY=VALUE, such as sim.workers=30", text);
    snprintf(key, sizeof key, "%.*s", (int)(equals - text), text);
    return config_set(config, key, equals + 1, "argument", error);
}

/* The seeds are the same for all cells. */
static enum lg_status read_seeds(struct experiment *experiment, struct lg_error *error) {
    struct config *only = config_new();
    struct sim_options options;
    enum lg_status status = only ? LG_OK : lg_fail(error, LG_NO_MEMORY, "no memory for the seeds");
    const struct config_entry *entry = config_find(experiment->base, "sim.seeds");
    if (status == LG_OK && entry)
        status = copy_entry(only, entry, entry->key, entry->value, error);
    if (status == LG_OK)
        status = option_apply(&sim_table, "sim.", only, &options, error);
    if (status == LG_OK && options.seeds.count == 0)
        status = lg_fail(error, LG_INVALID, "sim.seeds is empty");
    for (size_t i = 0; status == LG_OK && i < options.seeds.count; i++)
        experiment->seeds[experiment->seed_count++] = options.seeds.values[i];
    config_free(only);
    return status;
}

static enum lg_status make_cells(struct experiment *experiment, const struct axes *axes, experiment_check_fn *check,
                                 struct lg_error *error) {
    enum lg_status status = LG_OK;
    struct sim_options options;
    size_t count = 1;
    for (size_t i = 0; i < axes->count; i++) {
        count *= axes->list[i].count;
        if (count > EXPERIMENT_CELLS_MAX)
            return lg_fail(error, LG_INVALID, "the grid has more than %d cells", EXPERIMENT_CELLS_MAX);
    }
    experiment->cells = calloc(count, sizeof *experiment->cells);
    if (!experiment->cells)
        return lg_fail(error, LG_NO_MEMORY, "no memory for %zu cells", count);
    for (size_t i = 0; status == LG_OK && i < count; i++) {
        experiment->cell_count++;
        status = make_cell(experiment, axes, i, &experiment->cells[i], error);
        if (status == LG_OK)
            status = check_cell(&experiment->cells[i], check, &options, error);
        bool placed = error && strncmp(error->message, experiment->path, strlen(experiment->path)) == 0;
        if (status != LG_OK && !placed && experiment->cells[i].label[0])
            status = lg_fail_prefix(error, status, "cell \"%s\"", experiment->cells[i].label);
    }
    return status;
}

enum lg_status experiment_load(const char *path, const char *const *overrides, size_t override_count,
                               experiment_check_fn *check, struct experiment *out, struct lg_error *error) {
    struct axes *axes = calloc(1, sizeof *axes);
    *out = (struct experiment){0};
    enum lg_status status = axes ? LG_OK : lg_fail(error, LG_NO_MEMORY, "no memory for the grid");
    out->path = path;
    if (status == LG_OK)
        status = config_read_file(path, &out->base, error);
    for (size_t i = 0; status == LG_OK && i < override_count; i++)
        status = override(out->base, overrides[i], error);
    if (status == LG_OK)
        status = read_seeds(out, error);
    if (status == LG_OK)
        status = read_axes(out->base, axes, error);
    if (status == LG_OK)
        status = make_cells(out, axes, check, error);
    if (axes)
        axes_free(axes);
    if (status != LG_OK)
        experiment_free(out);
    return status;
}

void experiment_free(struct experiment *experiment) {
    for (size_t i = 0; i < experiment->cell_count; i++) {
        struct experiment_cell *cell = &experiment->cells[i];
        for (size_t k = 0; cell->runs && k < experiment->seed_count; k++)
            json_decref(cell->runs[k]);
        free(cell->runs);
        json_decref(cell->varied);
        config_free(cell->config);
    }
    free(experiment->cells);
    config_free(experiment->base);
    *experiment = (struct experiment){0};
}
