/* lagoon docs: the reference pages that are made from the tables, so that they cannot go stale. */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/registries.h"
#include "client/job.h"
#include "common/metrics.h"
#include "server/server_config.h"
#include "sim/sim_options.h"
#include "worker/worker_config.h"

static void print_configuration(FILE *out) {
    fprintf(out,
            "# Configuration\n\nMade by `make docs` from the option tables and registries; do not edit.\n\n"
            "Files are YAML; nested mappings join with a dot, so `http: {port: 9000}` is `http.port`. Every key is\n"
            "also a flag: `--http.port 9000`. Unknown keys are refused.\n");
    const struct option_table *const tables[] = {&server_table, &worker_table, &job_table, &sim_table};
    const char *const prefixes[] = {"", "", "", "sim."};
    for (size_t i = 0; i < 4; i++) {
        fprintf(out, "\n## %s\n\n%s.\n\n", tables[i]->name, tables[i]->summary);
        option_print_markdown(tables[i], prefixes[i], out);
    }
    for (size_t i = 0; registries_topics[i]; i++) {
        fprintf(out, "\n### %s\n", registries_topics[i]);
        registries_print(registries_topics[i], REGISTRIES_MARKDOWN, out);
    }
}

static void print_metrics(FILE *out) {
    fprintf(out,
            "# Metrics\n\nMade by `make docs` from common/metrics.def; do not edit. Every daemon serves its own at\n"
            "`/metrics` (OpenMetrics) and `/stats.json`.\n\n");
    metrics_print_markdown(out);
}

static void print_cli(FILE *out) {
    size_t count;
    const struct cli_command *const *commands = cli_commands(&count);
    fprintf(out, "# The command line\n\nMade by `make docs` from the command table; do not edit.\n");
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "\n## lagoon %s\n\n```\n", commands[i]->name);
        cli_print_command_help(commands[i], out);
        fprintf(out, "```\n");
    }
}

/* ---- man pages */

static void man_head(const char *name, const char *section, const char *summary, FILE *out) {
    fprintf(out, ".TH ");
    for (const char *c = name; *c; c++)
        fputc(toupper((unsigned char)*c), out);
    fprintf(out, " %s \"\" \"lagoon %s\"\n.SH NAME\n%s \\- %s\n", section, LAGOON_VERSION, name, summary);
}

/* One line as roff takes it: no dot or quote may begin it, and backslashes and hyphens are escaped. */
static void man_line(const char *line, size_t length, FILE *out) {
    if (length > 0 && strchr(".'", line[0]))
        fputs("\\&", out);
    for (size_t i = 0; i < length; i++) {
        if (strchr("\\-", line[i]))
            fputs(line[i] == '-' ? "\\-" : "\\e", out);
        else
            fputc(line[i], out);
    }
    fputc('\n', out);
}

/* Paragraphs are filled; lines that begin with a space stay as they are, as in the terminal's help. */
static void man_text(const char *text, FILE *out) {
    bool as_it_is = false;
    while (*text) {
        size_t length = strcspn(text, "\n");
        if (*text == ' ' && !as_it_is)
            fprintf(out, ".nf\n");
        else if (*text != ' ' && as_it_is)
            fprintf(out, ".fi\n");
        as_it_is = *text == ' ';
        if (length > 0)
            man_line(text, length, out);
        else
            fprintf(out, ".PP\n");
        text += length + (text[length] == '\n');
    }
    if (as_it_is)
        fprintf(out, ".fi\n");
}

static void man_exit_codes(FILE *out) {
    fprintf(out, ".SH EXIT STATUS\n");
    for (size_t i = 0; cli_exit_meanings[i].text; i++)
        fprintf(out, ".TP\n.B %d\n%s\n", cli_exit_meanings[i].code, cli_exit_meanings[i].text);
}

static void man_see_also(const char *pages, FILE *out) {
    fprintf(out, ".SH SEE ALSO\n%s\n", pages);
}

static void man_daemon(const char *name, const char *summary, const struct option_table *table, FILE *out) {
    man_head(name, "8", summary, out);
    fprintf(out, ".SH SYNOPSIS\n.B %s\n[\\-c FILE] [\\-\\-KEY VALUE ...]\n.SH OPTIONS\n", name);
    fprintf(out, ".TP\n.B \\-c, \\-\\-config FILE\nread options from a YAML file; flags override it\n"
                 ".TP\n.B \\-\\-check\nread everything, say whether it is right, and stop\n");
    option_print_man(table, "", out);
    fprintf(out, ".SH EXIT STATUS\n0 stopped as asked, 1 could not do its work, 2 wrong flags or configuration\n");
    man_see_also(".BR lagoon (1)", out);
}

static void man_server(FILE *out) {
    man_daemon("lagoon-server", "hosts shards of parameters, or is the coordinator", &server_table, out);
}

static void man_worker(FILE *out) {
    man_daemon("lagoon-worker", "trains jobs on this machine's devices", &worker_table, out);
}

static void man_cli(FILE *out) {
    size_t count;
    const struct cli_command *const *commands = cli_commands(&count);
    man_head("lagoon", "1", "a parameter server for machines that are not alike", out);
    fprintf(out, ".SH SYNOPSIS\n.B lagoon\nCOMMAND [OPTIONS]\n.SH COMMANDS\n");
    for (size_t i = 0; i < count; i++) {
        fprintf(out, ".SS lagoon %s%s%s\n", commands[i]->name, commands[i]->arguments[0] ? " " : "",
                commands[i]->arguments);
        man_line(commands[i]->summary, strlen(commands[i]->summary), out);
        if (commands[i]->details) {
            fprintf(out, ".PP\n");
            man_text(commands[i]->details, out);
        }
        if (commands[i]->options)
            option_print_man(commands[i]->options, "", out);
    }
    fprintf(out, ".SH OPTIONS OF EVERY COMMAND\n");
    option_print_man(&cli_global_table, "", out);
    man_exit_codes(out);
    man_see_also(".BR lagoon\\-server (8),\n.BR lagoon\\-worker (8),\n.BR lagoon\\-job (5)", out);
}

static void man_job(FILE *out) {
    man_head("lagoon-job", "5", "keys of job files", out);
    fprintf(out, ".SH DESCRIPTION\n");
    man_text("A job file is YAML and goes to the cluster with `lagoon submit FILE`. Nested mappings join with a dot; "
             "unknown keys are refused.\n\n"
             "  name: digits\n  model: {kind: cnn}\n  dataset: {kind: glyphs}\n  train: {batch: 32, epochs: 3}\n"
             "  updater: {kind: adam}\n  lr: {base: 0.002, schedule: cosine}\n",
             out);
    fprintf(out, ".SH KEYS\n");
    option_print_man_keys(&job_table, "", out);
    for (size_t i = 0; registries_topics[i]; i++) {
        fprintf(out, ".SH %s\n", registries_topics[i]);
        registries_print(registries_topics[i], REGISTRIES_MAN, out);
    }
    man_see_also(".BR lagoon (1)", out);
}

static const struct page {
    const char *name, *path;
    void (*print)(FILE *out);
} pages[] = {
    {"configuration", "configuration.md", print_configuration},
    {"metrics", "metrics.md", print_metrics},
    {"cli", "cli.md", print_cli},
    {"man lagoon", "man/lagoon.1", man_cli},
    {"man lagoon-server", "man/lagoon-server.8", man_server},
    {"man lagoon-worker", "man/lagoon-worker.8", man_worker},
    {"man lagoon-job", "man/lagoon-job.5", man_job},
};

static int write_all(const char *dir) {
    char path[1024];
    snprintf(path, sizeof path, "%s/man", dir);
    mkdir(dir, 0755);
    mkdir(path, 0755);
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, pages[i].path);
        FILE *out = fopen(path, "w");
        if (!out)
            return cli_complain(CLI_EXIT_FAILED, "cannot write \"%s\": %s", path, strerror(errno));
        pages[i].print(out);
        if (fclose(out) != 0)
            return cli_complain(CLI_EXIT_FAILED, "cannot write \"%s\": %s", path, strerror(errno));
    }
    return CLI_EXIT_OK;
}

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    (void)cli, (void)own;
    if (argc == 2 && strcmp(argv[0], "all") == 0)
        return write_all(argv[1]);
    for (size_t i = 0; argc > 0 && i < sizeof pages / sizeof *pages; i++) {
        bool man = argc == 2 && strcmp(argv[0], "man") == 0 && strncmp(pages[i].name, "man ", 4) == 0;
        if ((argc == 1 && strcmp(pages[i].name, argv[0]) == 0) || (man && strcmp(pages[i].name + 4, argv[1]) == 0)) {
            pages[i].print(stdout);
            return CLI_EXIT_OK;
        }
    }
    return cli_complain(CLI_EXIT_USAGE, "no such page; see `lagoon docs --help`");
}

const struct cli_command cmd_docs = {
    .name = "docs",
    .summary = "print the reference pages that are made from the tables",
    .arguments = "PAGE",
    .least = 1,
    .most = 2,
    .details = "Pages: configuration, metrics, cli, man lagoon, man lagoon-server, man lagoon-worker, man lagoon-job.\n"
               "`lagoon docs all DIR` writes them all.",
    .run = run,
};
