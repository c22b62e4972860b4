/* One plain safetensors file: u64 header length, a JSON header, then the tensors' bytes one behind the other.
 *
 * What PyTorch and NumPy users load directly. F32 only. Offsets are relative to the data, contiguous and exactly cover
 * the file; "__metadata__" holds text pairs. */
#ifndef LAGOON_COMMON_SAFETENSORS_H
#define LAGOON_COMMON_SAFETENSORS_H

#include "common/tensor.h"

struct safetensors_note {
    const char *key, *value;
};

/* Writes `values` (flat, table order) to `path`: a temporary file, fsync, rename. */
LG_MUST_CHECK enum lg_status safetensors_write(const char *path, const struct tensor_spec *specs, size_t count,
                                               const float *values, const struct safetensors_note *notes,
                                               size_t note_count, struct lg_error *error);

/* Reads the tensors named in the table into `values` (flat, table order). A missing tensor, another shape or dtype, an
 * extra tensor, a header that lies about the file: one error that names file and tensor. */
LG_MUST_CHECK enum lg_status safetensors_read(const char *path, const struct tensor_spec *specs, size_t count,
                                              float *values, struct lg_error *error);

#endif
