#include "common/tensor.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

static const uint64_t elements_max = UINT64_C(1) << 40;

uint64_t tensor_elements(const struct tensor_spec *spec) {
    uint64_t elements = 1;
    for (uint32_t i = 0; i < spec->rank; i++)
        elements *= spec->shape[i];
    return elements;
}

uint64_t tensor_total_elements(const struct tensor_spec *specs, size_t count) {
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += tensor_elements(&specs[i]);
    return total;
}

/* Non-empty, ends within its array, visible ASCII only. */
static bool name_is_valid(const char *name) {
    size_t length = strnlen(name, TENSOR_NAME_BYTES);
    if (length == 0 || length == TENSOR_NAME_BYTES)
        return false;
    for (size_t i = 0; i < length; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return false;
    return true;
}

static enum lg_status shape_check(const struct tensor_spec *spec, struct lg_error *error) {
    uint64_t elements = 1;
    if (spec->rank > TENSOR_RANK_MAX)
        return lg_fail(error, LG_INVALID, "tensor \"%s\" has rank %u; at most %d is supported", spec->name, spec->rank,
                       TENSOR_RANK_MAX);
    for (uint32_t i = 0; i < spec->rank; i++) {
        if (spec->shape[i] == 0)
            return lg_fail(error, LG_INVALID, "tensor \"%s\" has size 0 in dimension %u", spec->name, i);
        if (spec->shape[i] > (elements_max - 1) / elements)
            return lg_fail(error, LG_INVALID, "tensor \"%s\" has 2^40 elements or more", spec->name);
        elements *= spec->shape[i];
    }
    return LG_OK;
}

static enum lg_status spec_check(const struct tensor_spec *spec, size_t index, struct lg_error *error) {
    if (!name_is_valid(spec->name))
        return lg_fail(error, LG_INVALID, "the name of tensor %zu is not 1 to %d visible ASCII characters", index,
                       TENSOR_NAME_BYTES - 1);
    enum lg_status status = shape_check(spec, error);
    if (status != LG_OK)
        return status;
    if ((unsigned)spec->update > TENSOR_UPDATE_AVERAGE)
        return lg_fail(error, LG_INVALID, "tensor \"%s\" has the unknown update kind %u", spec->name,
                       (unsigned)spec->update);
    if (!isfinite(spec->lr_factor) || spec->lr_factor < 0)
        return lg_fail(error, LG_INVALID, "tensor \"%s\" has a learning-rate factor that is negative or not finite",
                       spec->name);
    return LG_OK;
}

static int compare_names(const void *a, const void *b) {
    const struct tensor_spec *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static enum lg_status names_check_unique(const struct tensor_spec *specs, size_t count, struct lg_error *error) {
    const struct tensor_spec **sorted = malloc(count * sizeof *sorted);
    enum lg_status status = LG_OK;
    if (!sorted)
        return lg_fail(error, LG_NO_MEMORY, "no memory to check %zu tensors", count);
    for (size_t i = 0; i < count; i++)
        sorted[i] = &specs[i];
    qsort(sorted, count, sizeof *sorted, compare_names);
    for (size_t i = 1; i < count && status == LG_OK; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            status = lg_fail(error, LG_INVALID, "two tensors are named \"%s\"", sorted[i]->name);
    free(sorted);
    return status;
}

enum lg_status tensor_table_check(const struct tensor_spec *specs, size_t count, struct lg_error *error) {
    if (count == 0 || count > TENSOR_COUNT_MAX)
        return lg_fail(error, LG_INVALID, "%zu tensors; a job has 1 to %d", count, TENSOR_COUNT_MAX);
    for (size_t i = 0; i < count; i++) {
        enum lg_status status = spec_check(&specs[i], i, error);
        if (status != LG_OK)
            return status;
    }
    return names_check_unique(specs, count, error);
}

/* Little-endian, so that the fingerprint is the same on every machine. */
static size_t put(unsigned char *at, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> (8 * i));
    return bytes;
}

/* One record per tensor, of fixed size; the hash of a record is the seed of the next. */
uint64_t tensor_table_fingerprint(const struct tensor_spec *specs, size_t count) {
    enum { RECORD_BYTES = TENSOR_NAME_BYTES + 4 + 8 * TENSOR_RANK_MAX + 1 + 1 + 1 + 4 };
    uint64_t hash = count;
    for (size_t i = 0; i < count; i++) {
        const struct tensor_spec *spec = &specs[i];
        unsigned char record[RECORD_BYTES] = {0};
        size_t at = TENSOR_NAME_BYTES;
        uint32_t factor_bits;
        memcpy(record, spec->name, strnlen(spec->name, TENSOR_NAME_BYTES));
        memcpy(&factor_bits, &spec->lr_factor, sizeof factor_bits);
        at += put(record + at, spec->rank, 4);
        for (uint32_t d = 0; d < TENSOR_RANK_MAX; d++)
            at += put(record + at, d < spec->rank ? spec->shape[d] : 0, 8);
        at += put(record + at, (uint64_t)spec->update, 1);
        at += put(record + at, spec->frozen, 1);
        at += put(record + at, spec->no_weight_decay, 1);
        at += put(record + at, factor_bits, 4);
        assert(at == RECORD_BYTES);
        hash = XXH3_64bits_withSeed(record, sizeof record, hash);
    }
    return hash;
}
