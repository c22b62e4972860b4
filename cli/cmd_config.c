/* lagoon config check and config show: configuration files without starting anything. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/job_file.h"
#include "server/server_config.h"
#include "sim/experiment.h"
#include "worker/worker_config.h"

struct check_options {
    char as[OPTION_TEXT_BYTES];
};

static const struct option options[] = {
    {"as", OPTION_CHOICE, offsetof(struct check_options, as), "guess", 0, 0, "guess|server|worker|job|experiment", NULL,
     "what the files are; guess: by their keys"},
};

static const struct option_table table = {"config check", "options of `lagoon config check`", options,
                                          sizeof options / sizeof *options, sizeof(struct check_options)};

/* "model" and "model.kind" are in section "model". */
static bool in_section(const char *key, const char *const *sections) {
    for (; *sections; sections++) {
        size_t length = strlen(*sections);
        if (strncmp(key, *sections, length) == 0 && (key[length] == '.' || key[length] == '\0'))
            return true;
    }
    return false;
}

/* How many entries the table has an option for, or a section of options. */
static int keys_known(const struct option_table *of, const struct config *config) {
    int known = 0;
    for (size_t i = 0; i < config->count; i++) {
        bool found = false;
        for (size_t j = 0; j < of->count && !found; j++)
            found = in_section(of->options[j].key, (const char *const[]){config->entries[i].key, NULL});
        known += found;
    }
    return known;
}

/* Keys that only one kind of file has decide before keys that several share. */
static const char *guess(const struct config *config) {
    int server = keys_known(&server_table, config), worker = keys_known(&worker_table, config),
        job = keys_known(&job_table, config);
    for (size_t i = 0; i < config->count; i++)
        if (in_section(config->entries[i].key, (const char *const[]){"sim", "grid", "variants", NULL}))
            return "experiment";
    for (size_t i = 0; i < config->count; i++)
        if (in_section(config->entries[i].key, (const char *const[]){"model", "dataset", "train", NULL}))
            return "job";
    if (config_find(config, "role") || config_find(config, "shards.count"))
        return "server";
    if (config_find(config, "slots") || config_find(config, "device"))
        return "worker";
    return job > server && job > worker ? "job" : worker > server ? "worker" : "server";
}

static enum lg_status check_daemon(const struct option_table *of, struct config *config, struct lg_error *error) {
    void *scratch = calloc(1, of->config_bytes);
    if (!scratch)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the options");
    enum lg_status status = option_apply(of, "", config, scratch, error);
    if (status == LG_OK)
        status = option_check_unused(config, &of, (const char *const[]){""}, 1, error);
    free(scratch);
    return status;
}

static enum lg_status check_job(struct config *config, struct lg_error *error) {
    struct job_config job;
    return job_file_check(config, &job, error);
}

static enum lg_status check_experiment(const char *path, struct lg_error *error) {
    struct experiment experiment;
    enum lg_status status = experiment_load(path, NULL, 0, check_job, &experiment, error);
    if (status == LG_OK)
        experiment_free(&experiment);
    return status;
}

static enum lg_status check_file(const char *path, const char *as, const char **kind, struct lg_error *error) {
    struct config *config = NULL;
    enum lg_status status = config_read_file(path, &config, error);
    if (status != LG_OK)
        return status;
    *kind = strcmp(as, "guess") == 0 ? guess(config) : as;
    if (strcmp(*kind, "job") == 0)
        status = check_job(config, error);
    else if (strcmp(*kind, "experiment") == 0)
        status = check_experiment(path, error);
    else
        status = check_daemon(strcmp(*kind, "server") == 0 ? &server_table : &worker_table, config, error);
    config_free(config);
    return status;
}

static int run_check(struct cli *cli, const void *own, int argc, char **argv) {
    const struct check_options *wanted = own;
    int code = CLI_EXIT_OK;
    for (int i = 0; i < argc; i++) {
        struct lg_error error = {0};
        const char *kind = "file";
        if (check_file(argv[i], wanted->as, &kind, &error) != LG_OK) {
            cli_fail(&error);
            code = CLI_EXIT_USAGE;
        } else if (!cli->globals.json) {
            printf("%s: nothing wrong, as %s %s file\n", argv[i], kind[0] == 'e' ? "an" : "a", kind);
        }
    }
    if (cli->globals.json)
        printf("{\"files\": %d, \"right\": %s}\n", argc, code == CLI_EXIT_OK ? "true" : "false");
    return code;
}

const struct cli_command cmd_config_check = {
    .name = "config check",
    .summary = "check configuration and job files",
    .arguments = "FILE ...",
    .least = 1,
    .most = 1000,
    .options = &table,
    .run = run_check,
};

static int run_show(struct cli *cli, const void *own, int argc, char **argv) {
    (void)cli, (void)own, (void)argc;
    if (strcmp(argv[0], "server") == 0)
        option_print_yaml(&server_table, "", stdout);
    else if (strcmp(argv[0], "worker") == 0)
        option_print_yaml(&worker_table, "", stdout);
    else if (strcmp(argv[0], "job") == 0)
        option_print_yaml(&job_table, "", stdout);
    else
        return cli_complain(CLI_EXIT_USAGE, "\"%s\" should be server, worker or job", argv[0]);
    return CLI_EXIT_OK;
}

const struct cli_command cmd_config_show = {
    .name = "config show",
    .summary = "print a configuration file with every option at its default",
    .arguments = "server|worker|job",
    .least = 1,
    .most = 1,
    .run = run_show,
};
