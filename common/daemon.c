#include "common/daemon.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/wrap.h"

struct request {
    const char *file;
    bool help, version, check;
};

void daemon_print_help(const struct daemon_program *program, FILE *out) {
    fprintf(out, "%s: %s\n\nusage: %s [-c FILE] [--KEY VALUE ...]\n\n", program->name, program->summary, program->name);
    fprintf(out, "  -c, --config FILE  read options from a YAML file; flags override it\n"
                 "      --check        read everything, say whether it is right, and stop\n"
                 "      --help         this text\n"
                 "      --version      the version\n\noptions:\n");
    option_print_help(program->table, "", out);
    fputc('\n', out);
    wrap_words("exit codes: 0 stopped as asked, 1 could not do its work, 2 wrong flags or configuration", 0, 2, out);
}

/* Takes the flags that every daemon has out of argv. */
static enum lg_status take_request(int *argc, char **argv, struct request *request, struct lg_error *error) {
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0) {
            request->help = true;
        } else if (strcmp(arg, "--version") == 0) {
            request->version = true;
        } else if (strcmp(arg, "--check") == 0) {
            request->check = true;
        } else if (strcmp(arg, "-c") == 0 || strcmp(arg, "--config") == 0) {
            if (++i >= *argc)
                return lg_fail(error, LG_INVALID, "%s needs a file name", arg);
            request->file = argv[i];
        } else if (strncmp(arg, "--config=", 9) == 0) {
            request->file = arg + 9;
        } else {
            argv[kept++] = argv[i];
        }
    }
    *argc = kept;
    return LG_OK;
}

static enum lg_status read_options(const struct daemon_program *program, const struct request *request, int *argc,
                                   char **argv, void *out, struct lg_error *error) {
    const struct option_table *table = program->table;
    struct config *config = NULL;
    enum lg_status status = LG_OK;
    if (request->file) {
        status = config_read_file(request->file, &config, error);
    } else if (!(config = config_new())) {
        status = lg_fail(error, LG_NO_MEMORY, "no memory for the configuration");
    }
    if (status == LG_OK)
        status = option_take_flags(table, "", argc, argv, config, error);
    if (status == LG_OK && *argc > 1)
        status = lg_fail(error, LG_INVALID, "unexpected argument \"%s\"; see --help", argv[1]);
    if (status == LG_OK)
        status = option_apply(table, "", config, out, error);
    if (status == LG_OK)
        status = option_check_unused(config, &table, (const char *const[]){""}, 1, error);
    if (status == LG_OK && program->check)
        status = program->check(config, out, error);
    config_free(config);
    return status;
}

bool daemon_configure(const struct daemon_program *program, int argc, char **argv, void *config, int *exit_code) {
    struct request request = {0};
    struct lg_error error = {0};
    *exit_code = EXIT_CODE_OK;
    enum lg_status status = take_request(&argc, argv, &request, &error);
    if (status == LG_OK && request.help) {
        daemon_print_help(program, stdout);
        return false;
    }
    if (status == LG_OK && request.version) {
        printf("%s %s\n", program->name, LAGOON_VERSION);
        return false;
    }
    if (status == LG_OK)
        status = read_options(program, &request, &argc, argv, config, &error);
    if (status != LG_OK) {
        fprintf(stderr, "%s: %s\n", program->name, error.message);
        *exit_code = EXIT_CODE_USAGE;
        return false;
    }
    if (request.check)
        printf("%s: %s is right\n", program->name, request.file ? request.file : "the configuration");
    return !request.check;
}

void daemon_keep_memory(void) {
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
}

enum lg_status daemon_write_ready(const char *path, const char *json, struct lg_error *error) {
    if (path[0] == '\0')
        return LG_OK;
    char temporary[OPTION_TEXT_BYTES + 16];
    snprintf(temporary, sizeof temporary, "%s.%d", path, (int)getpid());
    FILE *file = fopen(temporary, "w");
    bool written = file && fputs(json, file) >= 0 && fputc('\n', file) != EOF;
    if (file && fclose(file) != 0)
        written = false;
    if (!written || rename(temporary, path) != 0) {
        int cause = errno;
        remove(temporary);
        return lg_fail(error, LG_IO, "cannot write \"%s\": %s", path, strerror(cause));
    }
    return LG_OK;
}
