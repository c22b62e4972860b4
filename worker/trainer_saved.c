#include "worker/trainer_saved.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/safetensors.h"

#define ENDING ".residual.safetensors"

enum { PATH_BYTES = 3 * OPTION_TEXT_BYTES };

/* "job5-digits-": files of the job begin so; the trainer's number and ENDING follow. */
static void prefix_of(const struct trainer_handover *handover, char text[OPTION_TEXT_BYTES]) {
    snprintf(text, OPTION_TEXT_BYTES, "job%" PRId64 "-%.64s-", handover->job, handover->job_name);
}

void trainer_saved_put(const struct trainer_handover *handover, struct lg_client *client) {
    char path[PATH_BYTES], prefix[OPTION_TEXT_BYTES];
    struct lg_error error = {0};
    uint64_t elements;
    size_t count;
    const float *residual = lg_client_residual(client, &elements);
    if (!residual || !handover->state_dir[0])
        return;
    prefix_of(handover, prefix);
    const struct tensor_spec *tensors = lg_client_tensors(client, &count);
    snprintf(path, sizeof path, "%s/%s%" PRId64 ENDING, handover->state_dir, prefix, handover->trainer);
    if (safetensors_write(path, tensors, count, residual, NULL, 0, &error) == LG_OK)
        log_info("residual-saved", "what the codec has kept back of the gradients is in %s", path);
    else
        log_warn("residual-lost", "what the codec has kept back of the gradients is lost: %s", error.message);
}

/* True when there is nothing more to look for. The file is this trainer's once it has the new name. */
static bool take(const struct trainer_handover *handover, struct lg_client *client, const char *name, float *residual,
                 uint64_t elements) {
    char path[PATH_BYTES], mine[PATH_BYTES];
    struct lg_error error = {0};
    size_t count;
    const struct tensor_spec *tensors = lg_client_tensors(client, &count);
    snprintf(path, sizeof path, "%s/%.255s", handover->state_dir, name);
    snprintf(mine, sizeof mine, "%s/taken-%" PRId64, handover->state_dir, handover->trainer);
    if (rename(path, mine) != 0)
        return false; /* another trainer was faster */
    enum lg_status status = safetensors_read(mine, tensors, count, residual, &error);
    if (status == LG_OK)
        log_info("residual-taken", "going on with what %s kept back of its gradients", name);
    else {
        memset(residual, 0, elements * sizeof *residual);
        log_warn("residual-lost", "what %s kept back of its gradients is lost: %s", name, error.message);
    }
    (void)unlink(mine);
    return status == LG_OK;
}

static bool fits(const char *name, const char *prefix) {
    size_t length = strlen(name), ending = sizeof ENDING - 1;
    return strncmp(name, prefix, strlen(prefix)) == 0 && length > ending && strcmp(name + length - ending, ENDING) == 0;
}

void trainer_saved_take(const struct trainer_handover *handover, struct lg_client *client) {
    char prefix[OPTION_TEXT_BYTES];
    uint64_t elements;
    float *residual = lg_client_residual(client, &elements);
    if (!residual || !handover->state_dir[0])
        return;
    prefix_of(handover, prefix);
    DIR *folder = opendir(handover->state_dir);
    if (!folder) {
        log_warn("residual-lost", "cannot look into trainer.state_dir \"%s\": %s", handover->state_dir,
                 strerror(errno));
        return;
    }
    bool done = false;
    for (struct dirent *entry; !done && (entry = readdir(folder));)
        done = fits(entry->d_name, prefix) && take(handover, client, entry->d_name, residual, elements);
    closedir(folder);
}
