/* lagoon top: jobs, trainers, devices and shards at a glance, again and again. On a terminal it has a screen of its
 * own; elsewhere it prints what it sees once. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/link.h"
#include "cli/table.h"
#include "cli/top.h"
#include "cli/top_screen.h"

enum { ASK_MS = 2000 /* for an answer, before it counts as lost */ };

struct top_options {
    bool once;
    int64_t count, interval_ms;
};

#define AT(field) offsetof(struct top_options, field)
static const struct option options[] = {
    {"once", OPTION_BOOL, AT(once), "false", 0, 0, NULL, NULL, "print once, also on a terminal"},
    {"count", OPTION_INT, AT(count), "0", 0, 1000000000, NULL, NULL,
     "end after so many looks; 0: never on a terminal, after one in a pipe"},
    {"interval", OPTION_DURATION, AT(interval_ms), "1s", 100, 3600000, NULL, "ms", "from one look to the next"},
};
#undef AT

static const struct option_table table = {"top", "options of `lagoon top`", options, sizeof options / sizeof *options,
                                          sizeof(struct top_options)};

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* One look at the cluster. *document is the caller's, also where it does not suit. */
static enum lg_status look(struct link *link, struct top *top, json_t **document, struct lg_error *error) {
    *document = NULL;
    enum lg_status status = link_query(link, "stats", "", 0, document, NULL, error);
    if (status == LG_OK && !top_read(top, *document))
        status = lg_fail(error, LG_NO_MEMORY, "no memory for what the coordinator says");
    return status;
}

/* ---- in a pipe */

static void print_look(const struct cli *cli, const struct top *top, const json_t *document) {
    if (cli->globals.json) {
        json_dumpf(document, stdout, JSON_COMPACT);
        fputc('\n', stdout);
    } else {
        top_write(top, &(struct top_window){0}, stdout);
    }
    fflush(stdout);
}

/* The first look must come; a coordinator that goes away later is waited for. */
static int run_plain(const struct cli *cli, const struct top_options *wanted, struct link *link) {
    struct top top = {0};
    struct lg_error error = {0};
    int64_t looks = 0, count = wanted->once || wanted->count == 0 ? 1 : wanted->count;
    bool lost = false;
    int code = CLI_EXIT_OK;
    while (looks < count && !ferror(stdout)) {
        json_t *document;
        enum lg_status status = look(link, &top, &document, &error);
        if (status == LG_OK) {
            if (looks++ > 0 && !cli->globals.json)
                fputc('\n', stdout);
            print_look(cli, &top, document);
            lost = false;
        }
        json_decref(document);
        if (status != LG_OK && (looks == 0 || status != LG_UNAVAILABLE)) {
            code = cli_fail(&error);
            break;
        }
        if (status != LG_OK && !lost)
            fprintf(stderr, "lagoon: the coordinator at %s does not answer any more; asking again\n", cli->coordinator);
        lost = status != LG_OK;
        if (looks < count)
            nanosleep(&(struct timespec){wanted->interval_ms / 1000, wanted->interval_ms % 1000 * 1000000}, NULL);
    }
    top_deinit(&top);
    return code;
}

/* ---- on a terminal */

struct live {
    const struct cli *cli;
    const struct top_options *wanted;
    struct link *link;
    struct screen screen;
    struct top top;
    int64_t looks, seen_ms; /* when the last answer came; 0: none has */
    bool colour;
};

/* The whole screen in one write, so that it does not flicker: each line ends with clearing what was behind it. */
static void draw(struct live *live) {
    struct top_window window = {.colour = live->colour};
    char *text = NULL;
    size_t bytes = 0;
    screen_size(&window.width, &window.height);
    FILE *memory = open_memstream(&text, &bytes);
    if (!memory)
        return; /* the next time */
    top_write(&live->top, &window, memory);
    if (fclose(memory) == 0) {
        fputs("\033[H", stdout);
        for (const char *line = text; *line;) {
            size_t length = strcspn(line, "\n");
            fwrite(line, 1, length, stdout);
            fputs(line[length] ? "\033[K\n" : "\033[K", stdout);
            line += length + (line[length] != '\0');
        }
        fputs("\033[J", stdout);
        fflush(stdout);
    }
    free(text);
}

static void say_lost(struct live *live) {
    struct top *top = &live->top;
    if (live->seen_ms == 0)
        snprintf(top->lost, sizeof top->lost, "no coordinator answers at %s; asking again, q ends",
                 live->cli->coordinator);
    else
        snprintf(top->lost, sizeof top->lost, "%s does not answer; asking again (this is %lld s old)",
                 live->cli->coordinator, (long long)(now_ms() - live->seen_ms) / 1000);
}

/* LG_CANCELLED: a key or a signal comes first. */
static enum lg_status refresh(struct live *live, struct lg_error *error) {
    json_t *document;
    enum lg_status status = look(live->link, &live->top, &document, error);
    json_decref(document);
    if (status == LG_OK) {
        live->looks++;
        live->seen_ms = now_ms();
        live->top.lost[0] = '\0';
    } else if (status == LG_UNAVAILABLE) {
        say_lost(live);
    } else {
        return status;
    }
    draw(live);
    return LG_OK;
}

static int watch(struct live *live, struct lg_error *error) {
    int64_t next_ms = now_ms();
    draw(live);
    for (;;) {
        enum lg_status status = now_ms() >= next_ms ? refresh(live, error) : LG_CANCELLED;
        if (status == LG_OK)
            next_ms = now_ms() + live->wanted->interval_ms;
        else if (status != LG_CANCELLED)
            return CLI_EXIT_FAILED;
        if (live->wanted->count > 0 && live->looks >= live->wanted->count)
            return CLI_EXIT_OK;
        if (ferror(stdout))
            return CLI_EXIT_FAILED;
        switch (screen_wait(&live->screen, next_ms - now_ms())) {
        case SCREEN_EVENT_NONE:
            break;
        case SCREEN_EVENT_DRAW:
            draw(live);
            break;
        case SCREEN_EVENT_QUIT:
            return CLI_EXIT_OK;
        }
    }
}

static bool wants_colour(void) {
    const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");
    return !(no_colour && no_colour[0]) && !(term && strcmp(term, "dumb") == 0);
}

static int run_live(const struct cli *cli, const struct top_options *wanted) {
    struct live live = {.cli = cli, .wanted = wanted, .colour = wants_colour()};
    struct lg_error error = {0};
    if (screen_open(&live.screen, &error) != LG_OK)
        return cli_fail(&error);
    int code = CLI_EXIT_FAILED;
    snprintf(live.top.lost, sizeof live.top.lost, "asking the coordinator at %s", cli->coordinator);
    if (link_open(cli->coordinator, &live.link, &error) == LG_OK) {
        link_limit(live.link, ASK_MS, (const int[LINK_WAKES]){live.screen.signals, live.screen.keys});
        code = watch(&live, &error);
    }
    screen_close(&live.screen);
    link_close(live.link);
    top_deinit(&live.top);
    if (code != CLI_EXIT_OK && error.status != LG_OK)
        return cli_fail(&error);
    if (live.screen.quit_signal != 0 && live.screen.quit_signal != SIGINT) {
        signal(live.screen.quit_signal, SIG_DFL);
        (void)raise(live.screen.quit_signal); /* whoever waits for this process sees why it ended */
    }
    return code;
}

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    const struct top_options *wanted = own;
    struct lg_error error = {0};
    struct link *link = NULL;
    (void)argc, (void)argv;
    if (isatty(STDOUT_FILENO) && !wanted->once && !cli->globals.json)
        return run_live(cli, wanted);
    if (link_open(cli->coordinator, &link, &error) != LG_OK)
        return cli_fail(&error);
    link_limit(link, ASK_MS, (const int[LINK_WAKES]){-1, -1});
    int code = run_plain(cli, wanted, link);
    link_close(link);
    return code;
}

const struct cli_command cmd_top = {
    .name = "top",
    .summary = "jobs, trainers, devices and shards, live",
    .arguments = "",
    .details =
        "Refreshes on a terminal until q or Ctrl-C; in a pipe it prints once. With --json, one JSON document a look, "
        "the one of `lagoon stats`.\n\n"
        "Rates are over the last seconds; \"tok\" marks tokens, of language models, others count samples. A trainer's "
        "time is split into computing (COMP), copies between host and device that it was held up by (COPY), waiting "
        "for shards and leases (WAIT), reading batches (READ) and its own work on what it sends and receives (SEND). "
        "STALE is the mean staleness of its pushes, MAX a job's greatest one. MFU is the share of its devices' "
        "arithmetic that a model uses. VERSION is a shard's "
        "epoch and its count of pushes, where it holds one job. What is not known is \"-\"; colours are left out where "
        "NO_COLOR is set.",
    .options = &table,
    .run = run,
};
