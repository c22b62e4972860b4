#include "worker/trainer_micro.h"

#include <inttypes.h>

enum lg_status trainer_micro_init(struct trainer_micro *micro, struct model *model, uint32_t batch,
                                  struct lg_error *error) {
    *micro = (struct trainer_micro){.model = model, .most = model->batch_max, .weight = 1};
    if (batch <= micro->most)
        return LG_OK;
    micro->sum = model->device->ops->alloc(model->device, model->elements * sizeof *micro->sum);
    if (micro->sum)
        return LG_OK;
    return lg_fail(error, LG_NO_MEMORY,
                   "no memory on device \"%s\" to add up %" PRIu64 " gradients: use a smaller model, or leave out "
                   "train.micro_batch",
                   model->device->name, model->elements);
}

void trainer_micro_deinit(struct trainer_micro *micro) {
    if (micro->model)
        micro->model->device->ops->free(micro->model->device, micro->sum);
    *micro = (struct trainer_micro){0};
}

/* Samples [first, first + count) of a batch, in its memory. Rows of a sparse one keep their places among all entries.
 */
static struct batch piece_of(const struct batch *batch, const struct dataset_info *info, uint32_t first,
                             uint32_t count) {
    const size_t tokens = (size_t)first * info->context;
    struct batch piece = {.count = count, .columns = batch->columns, .values = batch->values};
    switch (info->form) {
    case DATASET_DENSE:
        piece.features = batch->features + (size_t)first * info->width;
        piece.labels = batch->labels + first;
        break;
    case DATASET_SPARSE:
        piece.row_starts = batch->row_starts + first;
        piece.labels = batch->labels + first;
        break;
    case DATASET_TOKENS:
        piece.tokens = batch->tokens + tokens;
        piece.labels = batch->labels + tokens;
        break;
    }
    return piece;
}

static enum lg_status forward(struct model *model, const struct batch *piece, struct model_result *sums,
                              struct lg_error *error) {
    struct model_result result = {0};
    if (sums->predictions > 0) /* not the first piece */
        model_same_parameters(model);
    enum lg_status status = model_forward(model, piece, &result, error);
    sums->loss_sum += result.loss_sum;
    sums->predictions += result.predictions;
    sums->correct += result.correct;
    return status;
}

/* The first piece's gradients are written where the sum is to be. */
static enum lg_status accumulate(struct trainer_micro *micro, float weight, bool first, struct lg_error *error) {
    struct model *model = micro->model;
    const struct device_ops *ops = model->device->ops;
    float *gradients = model->gradients;
    if (first)
        model_use_gradients(model, micro->sum);
    enum lg_status status = model_backward(model, NULL, NULL, error);
    model_use_gradients(model, gradients);
    if (status == LG_OK && first)
        ops->scale(model->stream, model->elements, weight, micro->sum);
    else if (status == LG_OK)
        ops->axpy(model->stream, model->elements, weight, gradients, micro->sum);
    return status;
}

enum lg_status trainer_micro_forward(struct trainer_micro *micro, const struct batch *batch,
                                     struct model_result *result, struct lg_error *error) {
    const struct dataset_info *info = &micro->model->info;
    enum lg_status status = LG_OK;
    uint32_t first = 0;
    *result = (struct model_result){0};
    for (; status == LG_OK && micro->sum && batch->count - first > micro->most; first += micro->most) {
        const struct batch piece = piece_of(batch, info, first, micro->most);
        status = forward(micro->model, &piece, result, error);
        if (status == LG_OK)
            status = accumulate(micro, (float)micro->most / (float)batch->count, first == 0, error);
    }
    if (status != LG_OK)
        return status;
    const struct batch last = piece_of(batch, info, first, batch->count - first);
    micro->weight = first > 0 ? (float)last.count / (float)batch->count : 1;
    return forward(micro->model, &last, result, error);
}

void trainer_micro_fold(const struct trainer_micro *micro, uint64_t from, uint64_t to) {
    struct model *model = micro->model;
    const struct device_ops *ops = model->device->ops;
    if (micro->weight == 1)
        return;
    ops->scale(model->stream, to - from, micro->weight, model->gradients + from);
    ops->axpy(model->stream, to - from, 1, micro->sum + from, model->gradients + from);
}
