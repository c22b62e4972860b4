#include "worker/trainer_handover.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct wire_form, field)

/* The handover as text has it: the token is a text of hexadecimal digits. */
struct wire_form {
    struct trainer_handover handover;
    char token[OPTION_TEXT_BYTES];
};

static const struct option options[] = {
    {"coordinator", OPTION_STRING, AT(handover.coordinator), NULL, 0, 0, NULL, NULL, "endpoint of the coordinator"},
    {"job_name", OPTION_STRING, AT(handover.job_name), NULL, 0, 0, NULL, NULL, "name of the job"},
    {"job", OPTION_INT, AT(handover.job), NULL, 0, 9e18, NULL, NULL, "number of the job"},
    {"trainer", OPTION_INT, AT(handover.trainer), NULL, 0, 9e18, NULL, NULL, "number of the trainer"},
    {"attempt", OPTION_INT, AT(handover.attempt), NULL, 0, 9e18, NULL, NULL, "how often it was started before"},
    {"device", OPTION_STRING, AT(handover.device), NULL, 0, 0, NULL, NULL, "where to compute"},
    {"threads", OPTION_INT, AT(handover.threads), NULL, 1, 4096, NULL, NULL, "compute threads"},
    {"slowdown", OPTION_FLOAT, AT(handover.slowdown), NULL, 1, 1e6, NULL, NULL, "factor on the time of a step"},
    {"state_dir", OPTION_STRING, AT(handover.state_dir), "", 0, 0, NULL, NULL, "folder for what a trainer leaves"},
    {"log_level", OPTION_CHOICE, AT(handover.log_level), NULL, 0, 0, "debug|info|warn|error", NULL, "least level"},
    {"agent_pid", OPTION_INT, AT(handover.agent_pid), NULL, 1, 9e18, NULL, NULL, "process that started this one"},
    {"token", OPTION_STRING, AT(token), NULL, 0, 0, NULL, NULL, "proves that the agent started this trainer"},
};
static const struct option_table table = {"handover", "what an agent tells a trainer", options,
                                          sizeof options / sizeof *options, sizeof(struct wire_form)};

static void write_line(struct buf *out, const char *prefix, const char *key, const char *value) {
    buf_printf(out, "%s%s=", prefix, key);
    for (; *value; value++) {
        if (*value == '\\')
            buf_text(out, "\\\\");
        else if (*value == '\n')
            buf_text(out, "\\n");
        else if (*value == '\r')
            buf_text(out, "\\r");
        else
            buf_char(out, *value);
    }
    buf_char(out, '\n');
}

enum lg_status trainer_handover_write(const struct trainer_handover *handover, const struct wire_pair *pairs,
                                      size_t count, struct buf *out, struct lg_error *error) {
    write_line(out, "", "coordinator", handover->coordinator);
    write_line(out, "", "job_name", handover->job_name);
    buf_printf(out, "job=%" PRId64 "\ntrainer=%" PRId64 "\nattempt=%" PRId64 "\n", handover->job, handover->trainer,
               handover->attempt);
    write_line(out, "", "device", handover->device);
    buf_printf(out, "threads=%" PRId64 "\nslowdown=%.17g\n", handover->threads, handover->slowdown);
    write_line(out, "", "state_dir", handover->state_dir);
    write_line(out, "", "log_level", handover->log_level);
    buf_printf(out, "agent_pid=%" PRId64 "\ntoken=%016" PRIx64 "\n", handover->agent_pid, handover->token);
    for (size_t i = 0; i < count; i++)
        write_line(out, "spec.", pairs[i].key, pairs[i].value);
    buf_text(out, "end\n");
    return buf_check(out, error);
}

/* Undoes the escapes of write_line in place; false on one that it does not write. */
static bool unescape(char *text) {
    char *to = text;
    for (; *text; text++) {
        if (*text != '\\') {
            *to++ = *text;
            continue;
        }
        text++;
        if (*text != '\\' && *text != 'n' && *text != 'r')
            return false;
        *to++ = *text == 'n' ? '\n' : *text == 'r' ? '\r' : '\\';
    }
    *to = '\0';
    return true;
}

/* Puts one line into `fixed`, or into `spec` without the prefix. */
static enum lg_status read_line(char *line, struct config *fixed, struct config *spec, struct lg_error *error) {
    char *value = strchr(line, '=');
    if (!value)
        return lg_fail(error, LG_MALFORMED, "the agent's handover has a line without '=': \"%.60s\"", line);
    *value++ = '\0';
    if (!unescape(value))
        return lg_fail(error, LG_MALFORMED, "the agent's handover has a broken escape in \"%.60s\"", line);
    if (strncmp(line, "spec.", 5) == 0)
        return config_set(spec, line + 5, value, "job", error);
    return config_set(fixed, line, value, "agent", error);
}

/* Cuts `text` (NUL-terminated, changed) into its lines. */
static enum lg_status read_lines(char *text, struct config *fixed, struct config *spec, struct lg_error *error) {
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        if (strcmp(line, "end") == 0)
            return LG_OK;
        enum lg_status status = read_line(line, fixed, spec, error);
        if (status != LG_OK)
            return status;
    }
    return lg_fail(error, LG_MALFORMED,
                   "the agent's handover ends too early: a trainer is started by lagoon-worker "
                   "and not by hand");
}

static enum lg_status take_token(const char *text, uint64_t *token, struct lg_error *error) {
    char *end = NULL;
    errno = 0;
    *token = strtoull(text, &end, 16);
    if (errno || *end || strlen(text) != 16)
        return lg_fail(error, LG_MALFORMED, "the agent's handover has no good token");
    return LG_OK;
}

enum lg_status trainer_handover_read(const char *text, size_t bytes, struct trainer_handover *out,
                                     struct lg_error *error) {
    static const struct option_table *const tables[] = {&table};
    static const char *const prefixes[] = {""};
    struct wire_form form = {0};
    struct config *fixed = config_new(), *spec = config_new();
    char *copy = malloc(bytes + 1);
    enum lg_status status = LG_OK;
    *out = (struct trainer_handover){0};
    if (!fixed || !spec || !copy) {
        status = lg_fail(error, LG_NO_MEMORY, "no memory for the agent's handover");
        goto out;
    }
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    status = read_lines(copy, fixed, spec, error);
    if (status == LG_OK)
        status = option_apply(&table, "", fixed, &form, error);
    if (status == LG_OK)
        status = option_check_unused(fixed, tables, prefixes, 1, error);
    if (status == LG_OK)
        status = take_token(form.token, &form.handover.token, error);
    if (status == LG_OK) {
        *out = form.handover;
        out->spec = spec;
        spec = NULL;
    }
out:
    if (copy) /* it held the token */
        explicit_bzero(copy, bytes);
    free(copy);
    config_free(fixed);
    config_free(spec);
    return status;
}

void trainer_handover_deinit(struct trainer_handover *handover) {
    config_free(handover->spec);
    *handover = (struct trainer_handover){0};
}
