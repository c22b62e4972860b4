#include "cli/initial.h"

#include <stdlib.h>

#include "cli/link.h"
#include "client/lagoon.h"
#include "common/safetensors.h"

enum { DEFINE_TIMEOUT_MS = 120000 };

enum lg_status cancel_job(const struct cli *cli, const char *job, const char *reason, struct lg_error *error) {
    struct link *link = NULL;
    struct wire_message request = {.kind = WIRE_CANCEL}, reply;
    request.cancel = (struct wire_cancel){job, reason};
    enum lg_status status = link_open(cli->coordinator, &link, error);
    if (status == LG_OK)
        status = link_ask(link, &request, LINK_TIMEOUT_MS, &reply, error);
    if (status == LG_OK && reply.kind == WIRE_ACK && reply.ack.status != LG_OK)
        status = lg_fail(error, (enum lg_status)reply.ack.status, "%s", reply.ack.reason);
    link_close(link);
    return status;
}

static enum lg_status push_file(struct lg_client *client, const char *path, struct lg_error *error) {
    size_t count;
    const struct tensor_spec *specs = lg_client_tensors(client, &count);
    struct lg_lease lease;
    float *values = malloc(sizeof *values * tensor_total_elements(specs, count));
    if (!values)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the initial values");
    enum lg_status status = safetensors_read(path, specs, count, values, error);
    if (status == LG_OK)
        status = lg_lease_next(client, &lease, error);
    if (status == LG_OK && lease.kind != LG_LEASE_INITIALISE)
        status = lg_fail(error, LG_EXISTS, "the job has its initial values already");
    if (status == LG_OK)
        status = lg_push(client, &(struct lg_push){.local_steps = 1, .initial = true}, values, NULL, error);
    if (status == LG_OK)
        status = lg_lease_done(client, &lease, error);
    free(values);
    return status;
}

int initial_push(const struct cli *cli, const char *job, const char *path) {
    struct lg_error error = {0};
    struct lg_client *client = NULL;
    const struct lg_client_options options = {
        .coordinator = cli->coordinator, .job = job, .role = LG_ROLE_INITIALISER, .timeout_ms = DEFINE_TIMEOUT_MS};
    enum lg_status status = lg_client_open(&options, &client, &error);
    if (status == LG_OK)
        status = push_file(client, path, &error);
    lg_client_close(&client, status == LG_OK ? "initial values pushed" : error.message);
    if (status == LG_OK)
        return CLI_EXIT_OK;
    struct lg_error ignored;
    enum lg_status cancelled = cancel_job(cli, job, error.message, &ignored);
    int code = cli_fail(&error);
    if (cancelled == LG_OK)
        cli_complain(code, "job %s is cancelled", job);
    return code;
}
