#include "cli/export.h"

#include "cli/pulled.h"
#include "common/safetensors.h"

enum lg_status export_job(const struct cli *cli, const char *job, const char *path, struct export_summary *summary,
                          struct lg_error *error) {
    struct pulled pulled;
    enum lg_status status = pulled_open(&pulled, cli, job, error);
    if (status != LG_OK)
        return status;
    const char *name = lg_client_spec(pulled.client, "name"), *model = lg_client_spec(pulled.client, "model.kind");
    const struct safetensors_note notes[] = {
        {"format", "pt"}, {"job", name ? name : job}, {"model", model ? model : ""}, {"lagoon", LAGOON_VERSION}};
    summary->tensors = pulled.count;
    summary->parameters = tensor_total_elements(pulled.specs, pulled.count);
    status = safetensors_write(path, pulled.specs, pulled.count, pulled.values, notes, 4, error);
    pulled_close(&pulled);
    return status;
}
