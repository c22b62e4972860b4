/* Lines for a window from what top knows: four tables that share its height and fit its width. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/top.h"
#include "common/units.h"

enum {
    COLUMNS_MAX = 16,
    CELL_BYTES = TOP_TEXT_BYTES + 4,
    GAP = 2,        /* between columns; 1 in a window that is too narrow for all of them */
    TEXT_LEAST = 6, /* a text column is cut to no less before another column goes */
};

/* How a cell looks; only with colours. */
enum tint { TINT_NONE, TINT_GOOD, TINT_BAD, TINT_CAUTION };

struct cell {
    char text[CELL_BYTES];
    enum tint tint;
};

struct column {
    const char *heading;
    bool text;   /* to the left, and may be cut; else a number, to the right */
    int matters; /* where the window is narrow, columns that matter least go first */
};

struct section {
    const char *nothing; /* in the place of rows, when there are none */
    const struct column *columns;
    size_t column_count, row_count;
    void (*fill)(const struct top *top, size_t row, struct cell *cells);
    size_t shown; /* rows; where they are fewer than there are, one more line says so */
};

/* ---- cells */

static void put(struct cell *cell, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct cell *cell, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(cell->text, sizeof cell->text, format, args);
    va_end(args);
}

static void put_number(struct cell *cell, double number, int decimals, const char *after) {
    if (isfinite(number))
        put(cell, "%.*f%s", decimals, number, after);
    else
        put(cell, "-");
}

static void put_share(struct cell *cell, double share) {
    put_number(cell, 100 * share, 0, "%");
}

static void put_bytes(struct cell *cell, double bytes) {
    char text[UNITS_TEXT_BYTES];
    if (isfinite(bytes) && bytes >= 0)
        put(cell, "%s", units_bytes((uint64_t)bytes, text, sizeof text));
    else
        put(cell, "-");
}

/* "1:3584", epoch and counter of the shard. */
static void put_version(struct cell *cell, long long version) {
    if (version > 0)
        put(cell, "%lld:%lld", version >> 48, version & 0xffffffffffff);
    else
        put(cell, "-");
}

static void put_rate(struct cell *cell, double per_second) {
    char text[UNITS_TEXT_BYTES];
    if (isfinite(per_second) && per_second >= 0)
        put(cell, "%s", units_rate(per_second, text, sizeof text));
    else
        put(cell, "-");
}

/* Tokens where it is a language model. */
static void put_speed(struct cell *cell, double samples, double tokens) {
    char text[UNITS_TEXT_BYTES];
    if (isfinite(tokens))
        put(cell, "%s tok", units_rate(tokens, text, sizeof text));
    else
        put_rate(cell, samples);
}

static void put_state(struct cell *cell, const char *state) {
    static const char *const good[] = {"running", "training", "alive"};
    static const char *const bad[] = {"failed", "silent", "given up"};
    put(cell, "%s", state);
    cell->tint = TINT_CAUTION;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cell->tint = strcmp(state, good[i]) == 0 ? TINT_GOOD : strcmp(state, bad[i]) == 0 ? TINT_BAD : cell->tint;
    if (strcmp(state, "finished") == 0)
        cell->tint = TINT_NONE;
}

/* ---- the four tables */

static const struct column job_columns[] = {
    {"ID", false, 9},   {"JOB", true, 10},      {"STATE", true, 10}, {"EPOCH", false, 7},
    {"DONE", false, 8}, {"RATE/S", false, 9},   {"LOSS", false, 9},  {"STALE", false, 6},
    {"MAX", false, 5},  {"TRAINERS", false, 3}, {"MFU", false, 4},
};

static void fill_job(const struct top *top, size_t row, struct cell *cells) {
    const struct top_job *job = &top->jobs[row];
    put(&cells[0], "%lld", job->id);
    put(&cells[1], "%s", job->name);
    put_state(&cells[2], job->state);
    put(&cells[3], "%lld/%lld", job->epoch, job->epochs);
    put_number(&cells[4], 100 * job->done, 1, "%");
    put_speed(&cells[5], job->samples_per_second, job->tokens_per_second);
    put_number(&cells[6], job->loss, 4, "");
    put_number(&cells[7], job->staleness_mean, 2, "");
    put_number(&cells[8], job->staleness_max, 0, "");
    put(&cells[9], "%lld", job->trainers);
    put_share(&cells[10], job->utilisation);
}

static const struct column trainer_columns[] = {
    {"ID", false, 10},    {"JOB", false, 7},   {"WORKER", true, 9},  {"DEVICE", true, 7}, {"STATE", true, 8},
    {"RATE/S", false, 9}, {"COMP", false, 8},  {"COPY", false, 8},   {"WAIT", false, 8},  {"READ", false, 6},
    {"SEND", false, 3},   {"STALE", false, 6}, {"WEIGHT", false, 5}, {"VIA", true, 4},    {"MEMORY", false, 2},
};

static void fill_trainer(const struct top *top, size_t row, struct cell *cells) {
    const struct top_trainer *trainer = &top->trainers[row];
    put(&cells[0], "%lld", trainer->number);
    put(&cells[1], "%lld", trainer->job);
    put(&cells[2], "%s", trainer->worker);
    put(&cells[3], "%s", trainer->device);
    put_state(&cells[4], trainer->state);
    put_speed(&cells[5], trainer->samples_per_second, trainer->tokens_per_second);
    put_share(&cells[6], trainer->compute);
    put_share(&cells[7], trainer->copy);
    put_share(&cells[8], trainer->wait);
    put_share(&cells[9], trainer->read);
    put_share(&cells[10], trainer->send);
    put_number(&cells[11], trainer->staleness, 2, "");
    put_number(&cells[12], trainer->weight, 3, "");
    put(&cells[13], "%s", trainer->via);
    put_bytes(&cells[14], trainer->memory_bytes);
}

static const struct column device_columns[] = {
    {"WORKER", true, 9}, {"DEVICE", true, 10}, {"USED", false, 8},  {"MEMORY", false, 8},
    {"BUSY", false, 9},  {"TEMP", false, 4},   {"POWER", false, 4}, {"NAME", true, 3},
};

static void fill_device(const struct top *top, size_t row, struct cell *cells) {
    const struct top_device *device = &top->devices[row];
    put(&cells[0], "%s", device->worker);
    put(&cells[1], "%s", device->device);
    put_bytes(&cells[2], device->used_bytes);
    put_bytes(&cells[3], device->total_bytes);
    put_share(&cells[4], device->utilisation);
    put_number(&cells[5], device->temperature_c, 0, " C");
    put_number(&cells[6], device->power_w, 0, " W");
    if (device->alive)
        put(&cells[7], "%s", device->name);
    else
        put_state(&cells[7], device->name);
}

static const struct column shard_columns[] = {
    {"SHARD", false, 10},   {"SERVER", true, 7},   {"STATE", true, 8},    {"MEMORY", false, 8},
    {"PUSHES/S", false, 9}, {"PULLS/S", false, 9}, {"BYTES/S", false, 9}, {"VERSION", false, 5},
};

static void fill_shard(const struct top *top, size_t row, struct cell *cells) {
    const struct top_shard *shard = &top->shards[row];
    put(&cells[0], "%lld", shard->number);
    put(&cells[1], "%s", shard->server);
    put_state(&cells[2], shard->state);
    put_bytes(&cells[3], shard->memory_bytes);
    put_rate(&cells[4], shard->pushes_per_second);
    put_rate(&cells[5], shard->pulls_per_second);
    put_bytes(&cells[6], shard->bytes_per_second);
    put_version(&cells[7], shard->version);
}

/* ---- widths */

/* Characters, not bytes; wide ones count as one. */
static int width_of(const char *text) {
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

struct layout {
    int gap;
    int widths[COLUMNS_MAX];
    bool hidden[COLUMNS_MAX];
};

static int layout_width(const struct section *section, const struct layout *layout) {
    int width = 0;
    for (size_t c = 0; c < section->column_count; c++)
        if (!layout->hidden[c])
            width += layout->widths[c] + (width ? layout->gap : 0);
    return width;
}

/* The widest text column that may still be cut; -1: none. */
static int widest_text(const struct section *section, const struct layout *layout) {
    int widest = -1;
    for (size_t c = 0; c < section->column_count; c++)
        if (section->columns[c].text && !layout->hidden[c] && layout->widths[c] > TEXT_LEAST &&
            (widest < 0 || layout->widths[c] > layout->widths[widest]))
            widest = (int)c;
    return widest;
}

/* The column that matters least, the last of equal ones; -1: only one is left. */
static int least_column(const struct section *section, const struct layout *layout) {
    int least = -1, left = 0;
    for (size_t c = 0; c < section->column_count; c++) {
        if (layout->hidden[c])
            continue;
        left++;
        if (least < 0 || section->columns[c].matters <= section->columns[least].matters)
            least = (int)c;
    }
    return left > 1 ? least : -1;
}

/* Long texts are cut first, down to 12 characters; then columns go; then texts are cut further. */
static void fit(const struct section *section, int width, struct layout *layout) {
    enum { TEXT_FAIR = 12 };
    layout->gap = width > 0 && layout_width(section, layout) > width ? 1 : GAP;
    while (width > 0 && layout_width(section, layout) > width) {
        int text = widest_text(section, layout), least = least_column(section, layout);
        if (text >= 0 && (layout->widths[text] > TEXT_FAIR || least < 0))
            layout->widths[text]--;
        else if (least >= 0)
            layout->hidden[least] = true;
        else
            break;
    }
    for (size_t c = 0; width > 0 && c < section->column_count; c++) /* the only one left may be wider still */
        if (!layout->hidden[c] && layout->widths[c] > width)
            layout->widths[c] = width;
}

static void measure(const struct top *top, const struct section *section, int width, struct layout *layout) {
    struct cell cells[COLUMNS_MAX];
    *layout = (struct layout){.gap = GAP};
    for (size_t c = 0; c < section->column_count; c++)
        layout->widths[c] = width_of(section->columns[c].heading);
    for (size_t r = 0; r < section->row_count; r++) { /* of all rows, so that columns stand still */
        section->fill(top, r, cells);
        for (size_t c = 0; c < section->column_count; c++) {
            int cell = width_of(cells[c].text);
            layout->widths[c] = cell > layout->widths[c] ? cell : layout->widths[c];
        }
    }
    fit(section, width, layout);
}

/* ---- writing */

/* A line at a time: no newline after the last one that the window has room for. */
struct writer {
    const struct top_window *window;
    FILE *out;
    int lines;
};

static bool is_full(const struct writer *writer) {
    return writer->window->height > 0 && writer->lines >= writer->window->height;
}

static void begin_line(struct writer *writer) {
    if (writer->lines++ > 0)
        fputc('\n', writer->out);
}

static void write_tint(const struct writer *writer, const char *code) {
    if (writer->window->colour)
        fputs(code, writer->out);
}

/* As much of the text as fits into `width`, the rest of it blank; '~' ends what was cut. */
static void write_padded(const struct writer *writer, const char *text, int width, bool right, bool pad) {
    int blanks = width - width_of(text), taken = 0;
    bool cut = blanks < 0;
    for (int i = 0; right && i < blanks; i++)
        fputc(' ', writer->out);
    for (; *text; text++) {
        taken += ((unsigned char)*text & 0xc0) != 0x80;
        if (cut && taken >= width)
            break;
        fputc(*text, writer->out);
    }
    if (cut && width > 0)
        fputc('~', writer->out);
    for (int i = 0; !right && pad && i < blanks; i++)
        fputc(' ', writer->out);
}

static void write_text_line(struct writer *writer, const char *text, const char *code) {
    int width = writer->window->width ? writer->window->width : width_of(text);
    if (is_full(writer))
        return;
    begin_line(writer);
    write_tint(writer, code);
    write_padded(writer, text, width, false, false);
    write_tint(writer, "\033[0m");
}

static void write_row(struct writer *writer, const struct section *section, const struct layout *layout,
                      const struct cell *cells) {
    static const char *const codes[] = {[TINT_GOOD] = "\033[32m", [TINT_BAD] = "\033[31m", [TINT_CAUTION] = "\033[33m"};
    bool first = true;
    size_t last = section->column_count;
    while (last > 0 && layout->hidden[last - 1])
        last--;
    for (size_t c = 0; c < last; c++) {
        if (layout->hidden[c])
            continue;
        if (!first)
            fprintf(writer->out, "%*s", layout->gap, "");
        first = false;
        if (cells[c].tint != TINT_NONE)
            write_tint(writer, codes[cells[c].tint]);
        write_padded(writer, cells[c].text, layout->widths[c], !section->columns[c].text, c + 1 < last);
        if (cells[c].tint != TINT_NONE)
            write_tint(writer, "\033[0m");
    }
}

static void write_headings(struct writer *writer, const struct section *section, const struct layout *layout) {
    struct cell cells[COLUMNS_MAX] = {0};
    for (size_t c = 0; c < section->column_count; c++)
        put(&cells[c], "%s", section->columns[c].heading);
    begin_line(writer);
    write_tint(writer, "\033[1m");
    write_row(writer, section, layout, cells);
    write_tint(writer, "\033[0m");
}

static void write_section(struct writer *writer, const struct top *top, const struct section *section) {
    struct layout layout;
    if (section->row_count == 0) {
        write_text_line(writer, section->nothing, "");
        return;
    }
    measure(top, section, writer->window->width, &layout);
    if (!is_full(writer))
        write_headings(writer, section, &layout);
    for (size_t r = 0; r < section->shown && !is_full(writer); r++) {
        struct cell cells[COLUMNS_MAX] = {0};
        section->fill(top, r, cells);
        begin_line(writer);
        write_row(writer, section, &layout, cells);
    }
    if (section->shown < section->row_count) {
        char more[64];
        snprintf(more, sizeof more, "... and %zu more", section->row_count - section->shown);
        write_text_line(writer, more, "");
    }
}

/* ---- heights */

/* Lines of a section with so many rows shown: its heading, rows, and what says that some are left out. */
static size_t lines_of(const struct section *section, size_t shown) {
    if (section->row_count == 0)
        return 1;
    return 1 + shown + (shown < section->row_count);
}

/* Lines of the sections with so many rows each at most, a blank one before each. */
static size_t lines_of_all(const struct section *sections, size_t count, size_t most) {
    size_t lines = 0;
    for (size_t i = 0; i < count; i++)
        lines += 1 + lines_of(&sections[i], sections[i].row_count < most ? sections[i].row_count : most);
    return lines;
}

/* The last sections go where there is not even room for one row of each; the others get a row in turn while there is
 * room. Returns how many stay. `taken`: lines before them. */
static size_t share_height(struct section *sections, size_t count, const struct top_window *window, size_t taken) {
    size_t height = window->height > 0 ? (size_t)window->height : SIZE_MAX;
    while (count > 1 && taken + lines_of_all(sections, count, 1) > height)
        count--;
    size_t lines = taken + lines_of_all(sections, count, 0);
    for (bool grown = true; grown;) {
        grown = false;
        for (size_t i = 0; i < count; i++) {
            struct section *section = &sections[i];
            if (section->shown == section->row_count)
                continue;
            size_t next = lines - lines_of(section, section->shown) + lines_of(section, section->shown + 1);
            if (next > height)
                continue;
            lines = next;
            section->shown++;
            grown = true;
        }
    }
    return count;
}

#define COLUMNS(list) .columns = (list), .column_count = sizeof(list) / sizeof *(list)

void top_write(const struct top *top, const struct top_window *window, FILE *out) {
    struct section sections[] = {
        {.nothing = "no jobs; `lagoon submit FILE` starts one",
         COLUMNS(job_columns),
         .row_count = top->job_count,
         .fill = fill_job},
        {.nothing = "no trainers run", COLUMNS(trainer_columns), .row_count = top->trainer_count, .fill = fill_trainer},
        {.nothing = "no devices; `lagoon-worker` brings them",
         COLUMNS(device_columns),
         .row_count = top->device_count,
         .fill = fill_device},
        {.nothing = "no shards; `lagoon-server` brings them",
         COLUMNS(shard_columns),
         .row_count = top->shard_count,
         .fill = fill_shard},
    };
    enum { SECTIONS = sizeof sections / sizeof *sections };
    struct writer writer = {.window = window, .out = out};
    bool known = top->head[0] != '\0';
    size_t count = share_height(sections, SECTIONS, window, 1 + (top->lost[0] != '\0'));
    if (known)
        write_text_line(&writer, top->head, "\033[1m");
    if (top->lost[0])
        write_text_line(&writer, top->lost, "\033[31m");
    for (size_t i = 0; known && i < count; i++) {
        write_text_line(&writer, "", "");
        write_section(&writer, top, &sections[i]);
    }
    if (window->height == 0)
        fputc('\n', out);
}
