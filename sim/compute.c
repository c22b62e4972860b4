/* What the machines would compute: gradients and evaluations, by the models and datasets that trainers use, on one
 * thread. There is one model for all workers; each has its own parameters. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/simulation_state.h"

enum { ORDERS = 32, ALIGN = 64 }; /* epochs whose order is remembered: more than the coordinator leases ahead */

static float *flat(const struct simulation *simulation) {
    size_t bytes = (simulation->model->elements * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
    float *memory = aligned_alloc(ALIGN, bytes);
    if (memory)
        memset(memory, 0, bytes);
    return memory;
}

/* Language models take as many tokens as their memory was made for; others evaluate faster in larger batches. */
static uint32_t batch_max(const struct simulation *simulation) {
    bool larger = simulation->dataset->info.form != DATASET_TOKENS && simulation->job.batch < SIM_EVALUATE_BATCH;
    return larger ? SIM_EVALUATE_BATCH : (uint32_t)simulation->job.batch;
}

static enum lg_status open_memory(struct simulation *simulation, struct lg_error *error) {
    const struct model *model = simulation->model;
    simulation->offsets = calloc(model->tensor_count + 1, sizeof *simulation->offsets);
    simulation->indices = calloc(batch_max(simulation), sizeof *simulation->indices);
    simulation->orders = calloc(ORDERS, sizeof *simulation->orders);
    simulation->order_epochs = calloc(ORDERS, sizeof *simulation->order_epochs);
    simulation->evaluated = flat(simulation);
    simulation->scratch = flat(simulation);
    if (!simulation->offsets || !simulation->indices || !simulation->orders || !simulation->order_epochs ||
        !simulation->evaluated || !simulation->scratch)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the model");
    for (size_t i = 0; i < model->tensor_count; i++)
        simulation->offsets[i + 1] = simulation->offsets[i] + tensor_elements(&model->tensors[i]);
    return LG_OK;
}

enum lg_status compute_open(struct simulation *simulation, struct lg_error *error) {
    enum lg_status status = device_open("cpu", 1, &simulation->device, error);
    simulation->clip = clip_parse(simulation->job.clip);
    if (status == LG_OK)
        status = dataset_open(simulation->config, &simulation->dataset, error);
    if (status == LG_OK)
        status = model_create(simulation->config, &simulation->dataset->info, simulation->device, batch_max(simulation),
                              &simulation->model, error);
    if (status == LG_OK)
        status = open_memory(simulation, error);
    return status;
}

void compute_close(struct simulation *simulation) {
    for (size_t i = 0; i < simulation->pool_count; i++)
        free(simulation->pool[i]);
    free(simulation->pool);
    free(simulation->offsets);
    free(simulation->indices);
    free(simulation->orders);
    free(simulation->order_epochs);
    free(simulation->evaluated);
    free(simulation->scratch);
    batch_deinit(&simulation->batch);
    model_destroy(simulation->model);
    dataset_close(simulation->dataset);
    device_close(simulation->device);
}

/* ---- gradient buffers: as many as there are pushes unsettled at once */

float *compute_take_buffer(struct simulation *simulation) {
    float *buffer = simulation->pool_count > 0 ? simulation->pool[--simulation->pool_count] : flat(simulation);
    if (!buffer)
        simulation_fail(simulation, LG_NO_MEMORY, "no memory for a worker's gradients");
    return buffer;
}

void compute_give_buffer(struct simulation *simulation, float *buffer) {
    if (buffer && simulation->pool_count == simulation->pool_capacity) {
        size_t capacity = simulation->pool_capacity ? 2 * simulation->pool_capacity : 64;
        float **pool = realloc(simulation->pool, capacity * sizeof *pool);
        if (!pool) {
            free(buffer);
            return;
        }
        simulation->pool = pool;
        simulation->pool_capacity = capacity;
    }
    if (buffer)
        simulation->pool[simulation->pool_count++] = buffer;
}

/* ---- gradients */

/* Workers are in different epochs at the same time. */
static const struct permutation *order_of(struct simulation *simulation, uint64_t epoch) {
    size_t at = (size_t)(epoch % ORDERS);
    if (simulation->order_epochs[at] != epoch + 1) {
        permutation_init(&simulation->orders[at], simulation->dataset->info.train_samples,
                         (uint64_t)simulation->job.seed, epoch);
        simulation->order_epochs[at] = epoch + 1;
    }
    return &simulation->orders[at];
}

static void clip(struct simulation *simulation, float *gradients) {
    const uint64_t *offsets = simulation->offsets;
    const struct device_ops *ops = simulation->device->ops;
    struct device_stream *stream = simulation->model->stream;
    size_t tensors = simulation->model->tensor_count;
    if (simulation->clip == CLIP_GLOBAL)
        ops->clip(stream, offsets[tensors], simulation->job.clip_norm, gradients);
    for (size_t i = 0; simulation->clip == CLIP_TENSOR && i < tensors; i++)
        ops->clip(stream, offsets[i + 1] - offsets[i], simulation->job.clip_norm, gradients + offsets[i]);
}

/* The gradient of these samples at `parameters`; false when it failed, or the loss was not finite. */
static bool compute_gradient(struct simulation *simulation, float *parameters, uint64_t epoch,
                             struct sample_range range, float *gradients) {
    const struct permutation *order = order_of(simulation, epoch);
    struct model_result result = {0};
    struct lg_error error = {0};
    uint32_t count = (uint32_t)(range.end - range.first);
    for (uint32_t i = 0; i < count; i++)
        simulation->indices[i] = permutation_at(order, range.first + i);
    model_use_parameters(simulation->model, parameters);
    model_use_gradients(simulation->model, gradients);
    enum lg_status status =
        dataset_read(simulation->dataset, DATASET_TRAIN, epoch, simulation->indices, count, &simulation->batch, &error);
    if (status == LG_OK)
        status = model_forward(simulation->model, &simulation->batch, &result, &error);
    if (status == LG_OK && isfinite(result.loss_sum))
        status = model_backward(simulation->model, NULL, NULL, &error);
    if (status != LG_OK) {
        simulation_fail(simulation, status, "%s", error.message);
        return false;
    }
    clip(simulation, gradients);
    return isfinite(result.loss_sum);
}

bool compute_push(struct virtual_worker *worker, float *out) {
    struct simulation *simulation = worker->simulation;
    const uint64_t batch = (uint64_t)simulation->job.batch;
    float *parameters = worker->parameters[worker->current];
    if (simulation->job.local_steps == 1)
        return compute_gradient(simulation, parameters, worker->lease.epoch, worker->batch, out);
    local_steps_begin(&worker->local, parameters);
    for (uint64_t at = worker->batch.first; at < worker->batch.end; at += batch) {
        const struct sample_range part = {at, at + batch < worker->batch.end ? at + batch : worker->batch.end};
        if (!compute_gradient(simulation, worker->local.parameters, worker->lease.epoch, part, simulation->scratch))
            return false;
        local_steps_take(&worker->local, simulation->scratch);
    }
    local_steps_result(&worker->local, parameters, out);
    return true;
}

/* ---- evaluations */

static void collect(struct simulation *simulation) {
    struct block_table blocks;
    struct lg_error error = {0};
    if (block_table_init(&blocks, simulation->model->tensors, simulation->model->tensor_count, &error) != LG_OK) {
        simulation_fail(simulation, error.status, "%s", error.message);
        return;
    }
    for (uint32_t unit = 0; unit < blocks.count; unit++)
        for (uint32_t i = 0; i < simulation->shard_count; i++) {
            const float *values = shard_unit_data(simulation->shards[i].shard, simulation->job_id, unit, NULL, NULL);
            if (values)
                memcpy(simulation->evaluated + blocks.blocks[unit].offset, values,
                       blocks.blocks[unit].elements * sizeof *values);
        }
    block_table_deinit(&blocks);
}

static enum lg_status evaluate_batch(struct simulation *simulation, uint64_t first, uint32_t count,
                                     struct model_result *sums, struct lg_error *error) {
    struct model_result result = {0};
    for (uint32_t i = 0; i < count; i++)
        simulation->indices[i] = first + i;
    enum lg_status status =
        dataset_read(simulation->dataset, DATASET_TEST, 0, simulation->indices, count, &simulation->batch, error);
    if (status == LG_OK)
        status = model_forward(simulation->model, &simulation->batch, &result, error);
    sums->loss_sum += result.loss_sum;
    sums->correct += result.correct;
    sums->predictions += result.predictions;
    return status;
}

static void add_point(struct simulation *simulation, const struct model_result *sums) {
    struct sim_outcome *outcome = simulation->outcome;
    const struct virtual_shard *lead = &simulation->shards[simulation->lead];
    double predictions = sums->predictions ? (double)sums->predictions : 1;
    if (outcome->curve_count == outcome->curve_capacity) {
        size_t capacity = outcome->curve_capacity ? 2 * outcome->curve_capacity : 64;
        struct sim_point *curve = realloc(outcome->curve, capacity * sizeof *curve);
        if (!curve) {
            simulation_fail(simulation, LG_NO_MEMORY, "no memory for the curve");
            return;
        }
        outcome->curve = curve;
        outcome->curve_capacity = capacity;
    }
    simulation->accuracy = (double)sums->correct / predictions;
    outcome->curve[outcome->curve_count++] = (struct sim_point){.samples = lead->samples,
                                                                .updates = lead->updates,
                                                                .time_s = simulation_seconds(simulation),
                                                                .loss = sums->loss_sum / predictions,
                                                                .accuracy = simulation->accuracy};
    if (simulation->options.target > 0 && simulation->accuracy >= simulation->options.target &&
        isnan(outcome->target_s)) {
        outcome->target_s = simulation_seconds(simulation);
        outcome->target_samples = (double)lead->samples;
    }
}

static bool is_evaluated(const struct simulation *simulation) {
    const struct sim_outcome *outcome = simulation->outcome;
    return outcome->curve_count > 0 &&
           outcome->curve[outcome->curve_count - 1].updates == simulation->shards[simulation->lead].updates;
}

void compute_evaluate(struct simulation *simulation) {
    uint64_t samples = simulation->dataset->info.test_samples, limit = (uint64_t)simulation->job.evaluate_samples;
    struct model_result sums = {0};
    struct lg_error error = {0};
    enum lg_status status = LG_OK;
    if (is_evaluated(simulation))
        return;
    if (limit > 0 && limit < samples)
        samples = limit;
    collect(simulation);
    model_use_parameters(simulation->model, simulation->evaluated);
    model_use_gradients(simulation->model, simulation->scratch);
    for (uint64_t at = 0, batch = batch_max(simulation); status == LG_OK && at < samples; at += batch)
        status = evaluate_batch(simulation, at, (uint32_t)(samples - at < batch ? samples - at : batch), &sums, &error);
    if (status != LG_OK) {
        simulation_fail(simulation, status, "%s", error.message);
        return;
    }
    add_point(simulation, &sums);
    if (!isfinite(sums.loss_sum)) {
        simulation->outcome->diverged = true;
        simulation_end(simulation, "diverged: the loss is not finite");
    } else if (simulation->options.stop_accuracy > 0 && simulation->accuracy >= simulation->options.stop_accuracy) {
        simulation_end(simulation, "accuracy %g was reached", simulation->options.stop_accuracy);
    }
}
