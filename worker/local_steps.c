#include "worker/local_steps.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

static float *zeros(uint64_t elements) {
    size_t bytes = ((size_t)elements * sizeof(float) + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    float *memory = aligned_alloc(ALIGNMENT, bytes);
    if (memory)
        memset(memory, 0, bytes);
    return memory;
}

enum lg_status local_steps_init(struct local_steps *steps, struct config *spec, const struct job_config *job,
                                const struct tensor_spec *tensors, size_t tensor_count, struct lg_error *error) {
    *steps = (struct local_steps){.tensors = tensors,
                                  .tensor_count = tensor_count,
                                  .elements = tensor_total_elements(tensors, tensor_count),
                                  .isa = isa_detect(),
                                  .learning_rate = (float)job->local_rate,
                                  .weight_decay = (float)job->local_weight_decay};
    enum lg_status status = updater_configure_local(spec, &steps->updater, steps->values, error);
    if (status != LG_OK)
        return status;
    bool fine = (steps->parameters = zeros(steps->elements)) != NULL;
    for (uint32_t i = 0; i < steps->updater->state_count; i++)
        fine = fine && (steps->states[i] = zeros(steps->elements));
    return fine ? LG_OK
                : lg_fail(error, LG_NO_MEMORY, "no memory for local steps on %" PRIu64 " parameters", steps->elements);
}

void local_steps_deinit(struct local_steps *steps) {
    free(steps->parameters);
    for (int i = 0; i < UPDATER_STATES_MAX; i++)
        free(steps->states[i]);
    *steps = (struct local_steps){0};
}

void local_steps_begin(struct local_steps *steps, const float *pulled) {
    memcpy(steps->parameters, pulled, steps->elements * sizeof *pulled);
}

static void update(struct local_steps *steps, const struct tensor_spec *tensor, uint64_t first, uint64_t count,
                   const float *gradients) {
    const struct updater_moment moment = {.learning_rate = steps->learning_rate * tensor->lr_factor,
                                          .weight = 1,
                                          .weight_decay = tensor->no_weight_decay ? 0 : steps->weight_decay,
                                          .step = steps->taken};
    float scalars[UPDATER_SCALARS_MAX];
    steps->updater->decide(steps->values, &moment, scalars);
    for (uint64_t at = first; at < first + count; at += UPDATER_CHUNK) {
        uint64_t n = first + count - at < UPDATER_CHUNK ? first + count - at : UPDATER_CHUNK;
        float *states[UPDATER_STATES_MAX];
        for (int i = 0; i < UPDATER_STATES_MAX; i++)
            states[i] = steps->states[i] ? steps->states[i] + at : NULL;
        steps->updater->apply[steps->isa](steps->parameters + at, states, gradients + at, n, scalars);
    }
}

void local_steps_take(struct local_steps *steps, const float *gradients) {
    uint64_t first = 0;
    steps->taken++;
    for (size_t i = 0; i < steps->tensor_count; i++) {
        const struct tensor_spec *tensor = &steps->tensors[i];
        uint64_t count = tensor_elements(tensor);
        if (tensor->update != TENSOR_UPDATE_GRADIENT)
            memcpy(steps->parameters + first, gradients + first, count * sizeof *gradients);
        else if (!tensor->frozen)
            update(steps, tensor, first, count, gradients);
        first += count;
    }
}

void local_steps_result(const struct local_steps *steps, const float *pulled, float *out) {
    uint64_t first = 0;
    for (size_t i = 0; i < steps->tensor_count; i++) {
        uint64_t end = first + tensor_elements(&steps->tensors[i]);
        const bool change = steps->tensors[i].update == TENSOR_UPDATE_GRADIENT;
        for (uint64_t at = first; at < end; at++)
            out[at] = change ? steps->parameters[at] - pulled[at] : steps->parameters[at];
        first = end;
    }
}
