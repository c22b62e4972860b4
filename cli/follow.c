#include "cli/follow.h"

#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/table.h"
#include "common/units.h"

enum { LOOK_MS = 400, PLAIN_LINE_MS = 5000, LOST_WARN_MS = 3000, LINE_BYTES = 512 };

struct view {
    const struct follow *follow;
    bool terminal, drawn;
    uint64_t next_history;
    int64_t next_plain_ms, lost_since_ms;
    char plain[LINE_BYTES]; /* the last plain line: a job that waits says so once */
};

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void erase(struct view *view) {
    if (view->drawn)
        fputs("\r\033[K", view->follow->out);
    view->drawn = false;
}

/* "glyphs-cnn: running, epoch 2/3, 52.7 %, 5.71k samples/s, loss 0.0287, test accuracy 98.85 %, staleness 1.5 p99 18,
 * 9.9 s left"; only the state before the first sample is applied. The brief form, with staleness as
 * mean/p99, fits 80 columns. */
static void describe(const json_t *job, bool brief, char *text, size_t bytes) {
    char rate[UNITS_TEXT_BYTES], eta[UNITS_TEXT_BYTES], left[2 * UNITS_TEXT_BYTES] = "", accuracy[64] = "";
    const json_t *staleness = json_object_get(job, "staleness");
    const char *name = field_text(job, "name", "?"), *state = field_text(job, "state", "?");
    double total = field_number(job, "samples_total", 0), done = field_number(job, "samples_applied", 0);
    double left_s = field_number(job, "eta_s", -1), loss = field_number(job, "loss", 0);
    double mean = field_number(staleness, "mean", 0), p99 = field_number(staleness, "p99", 0);
    if (done <= 0 || total <= 0) {
        snprintf(text, bytes, "%s: %s", name, state);
        return;
    }
    if (left_s >= 60)
        snprintf(left, sizeof left, ", %s left", units_duration((int64_t)(1000 * left_s), eta, sizeof eta));
    else if (left_s > 0)
        snprintf(left, sizeof left, ", %.1f s left", left_s);
    if (json_is_number(json_object_get(job, "accuracy")))
        snprintf(accuracy, sizeof accuracy, ", %s %.2f %%", brief ? "test" : "test accuracy",
                 100 * field_number(job, "accuracy", 0));
    units_rate(field_number(job, "samples_per_second", 0), rate, sizeof rate);
    if (brief)
        snprintf(text, bytes, "epoch %lld/%lld, %.1f %%%s, %s/s, loss %.4f%s, stale %.1f/%.0f", field_epoch(job),
                 field_integer(job, "epochs", 0), 100 * done / total, left, rate, loss, accuracy, mean, p99);
    else
        snprintf(text, bytes, "%s: %s, epoch %lld/%lld, %.1f %%, %s samples/s, loss %.4f%s, staleness %.1f p99 %.0f%s",
                 name, state, field_epoch(job), field_integer(job, "epochs", 0), 100 * done / total, rate, loss,
                 accuracy, mean, p99, left);
}

static int terminal_width(FILE *out) {
    struct winsize size;
    return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 10 ? size.ws_col : 80;
}

static void show_progress(struct view *view, const json_t *job) {
    char text[LINE_BYTES];
    FILE *out = view->follow->out;
    describe(job, false, text, sizeof text);
    if (view->terminal) {
        int room = terminal_width(out) - 1;
        if ((int)strlen(text) > room)
            describe(job, true, text, sizeof text);
        fprintf(out, "\r\033[K%.*s", room, text);
        view->drawn = true;
    } else if (now_ms() >= view->next_plain_ms && strcmp(text, view->plain) != 0) {
        fprintf(out, "%s\n", text);
        snprintf(view->plain, sizeof view->plain, "%s", text);
        view->next_plain_ms = now_ms() + PLAIN_LINE_MS;
    }
    fflush(out);
}

static void show_history(struct view *view, struct link *link) {
    json_t *rows = NULL, *row;
    size_t i;
    if (link_query(link, "history", view->follow->job, view->next_history, &rows, &view->next_history, NULL) != LG_OK)
        return;
    json_array_foreach(rows, i, row) {
        erase(view);
        fprintf(view->follow->out, "  %s\n", field_text(row, "text", ""));
    }
    json_decref(rows);
}

static int end_code(const json_t *job) {
    const char *state = field_text(job, "state", "");
    if (strcmp(state, "finished") == 0)
        return CLI_EXIT_OK;
    if (strcmp(state, "failed") == 0)
        return CLI_EXIT_JOB_FAILED;
    return strcmp(state, "cancelled") == 0 ? CLI_EXIT_JOB_CANCELLED : -1;
}

/* The coordinator may restart: keep asking, say so once. */
static void say_lost(struct view *view, const struct lg_error *error) {
    if (view->lost_since_ms == 0) {
        view->lost_since_ms = now_ms();
        erase(view);
        fprintf(stderr, "lagoon: %s; training goes on without it, asking again\n", error->message);
    }
}

static int follow_end(struct view *view, struct link *link, json_t *job, int code) {
    if (view->follow->history)
        show_history(view, link);
    erase(view);
    if (code == CLI_EXIT_JOB_FAILED || code == CLI_EXIT_JOB_CANCELLED)
        fprintf(stderr, "lagoon: job \"%s\" %s: %s\n", field_text(job, "name", "?"), field_text(job, "state", "?"),
                field_text(job, "reason", "no reason given"));
    return code;
}

int follow_job(struct link *link, const struct follow *follow, json_t **last) {
    struct view view = {.follow = follow, .terminal = isatty(fileno(follow->out))};
    int64_t deadline = follow->timeout_ms ? now_ms() + follow->timeout_ms : INT64_MAX;
    json_t *job = NULL;
    int code = -1;
    while (code < 0) {
        struct lg_error error = {0};
        json_t *next = NULL;
        enum lg_status status = link_query(link, "job", follow->job, 0, &next, NULL, &error);
        if (status == LG_UNAVAILABLE && job)
            say_lost(&view, &error);
        else if (status != LG_OK)
            code = cli_fail(&error);
        if (status == LG_OK) {
            json_decref(job);
            job = next;
            view.lost_since_ms = 0;
            code = end_code(job);
            if (follow->history)
                show_history(&view, link);
            if (!follow->quiet && code < 0)
                show_progress(&view, job);
            if (follow->look && !follow->look(follow->context, job) && code < 0)
                code = CLI_EXIT_FAILED;
        }
        if (code < 0 && now_ms() >= deadline)
            code = cli_complain(CLI_EXIT_TIMEOUT, "job \"%s\" has not ended in time; it goes on", follow->job);
        if (code < 0)
            nanosleep(&(struct timespec){0, LOOK_MS * 1000000L}, NULL);
    }
    code = job ? follow_end(&view, link, job, code) : code;
    if (last)
        *last = json_incref(job);
    json_decref(job);
    return code;
}
