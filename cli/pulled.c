#include "cli/pulled.h"

#include <stdlib.h>

enum { PULL_TIMEOUT_MS = 30000 };

enum lg_status pulled_open(struct pulled *pulled, const struct cli *cli, const char *job, struct lg_error *error) {
    const struct lg_client_options options = {
        .coordinator = cli->coordinator, .job = job, .role = LG_ROLE_OBSERVER, .timeout_ms = PULL_TIMEOUT_MS};
    *pulled = (struct pulled){0};
    enum lg_status status = lg_client_open(&options, &pulled->client, error);
    if (status != LG_OK)
        return status;
    pulled->specs = lg_client_tensors(pulled->client, &pulled->count);
    pulled->values = malloc(sizeof *pulled->values * tensor_total_elements(pulled->specs, pulled->count));
    if (!pulled->values)
        status = lg_fail(error, LG_NO_MEMORY, "no memory for the job's parameters");
    if (status == LG_OK)
        status = lg_pull(pulled->client, pulled->values, error);
    if (status != LG_OK)
        pulled_close(pulled);
    return status;
}

void pulled_close(struct pulled *pulled) {
    if (pulled->client)
        lg_client_close(&pulled->client, "done");
    free(pulled->values);
    *pulled = (struct pulled){0};
}
