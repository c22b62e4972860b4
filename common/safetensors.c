#include "common/safetensors.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES_MAX = 64 << 20, ALIGNMENT = 8, PATH_BYTES = 1024 };

/* ---- writing */

static json_t *entry_json(const struct tensor_spec *spec, uint64_t begin, uint64_t end) {
    json_t *shape = json_array();
    for (uint32_t i = 0; i < spec->rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)spec->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets", (json_int_t)begin,
                     (json_int_t)end);
}

/* The header padded with spaces, so that the data starts aligned; NULL without memory. */
static char *header_text(const struct tensor_spec *specs, size_t count, const struct safetensors_note *notes,
                         size_t note_count) {
    json_t *header = json_object(), *metadata = json_object();
    uint64_t at = 0;
    for (size_t i = 0; i < note_count; i++)
        json_object_set_new(metadata, notes[i].key, json_string(notes[i].value));
    if (note_count > 0)
        json_object_set(header, "__metadata__", metadata);
    json_decref(metadata);
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = 4 * tensor_elements(&specs[i]);
        json_object_set_new(header, specs[i].name, entry_json(&specs[i], at, at + bytes));
        at += bytes;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    size_t size = text ? strlen(text) : 0, padded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    char *aligned = text ? realloc(text, padded + 1) : NULL;
    if (!aligned) {
        free(text);
        return NULL;
    }
    memset(aligned + size, ' ', padded - size);
    aligned[padded] = '\0';
    return aligned;
}

enum lg_status safetensors_write(const char *path, const struct tensor_spec *specs, size_t count, const float *values,
                                 const struct safetensors_note *notes, size_t note_count, struct lg_error *error) {
    char temporary[PATH_BYTES];
    enum lg_status status = LG_OK;
    snprintf(temporary, sizeof temporary, "%s.%d.tmp", path, (int)getpid());
    char *header = header_text(specs, count, notes, note_count);
    FILE *file = header ? fopen(temporary, "wb") : NULL;
    if (!file) {
        status = lg_fail(error, header ? LG_IO : LG_NO_MEMORY, "cannot write \"%s\": %s", path, strerror(errno));
        goto out;
    }
    uint64_t size = strlen(header), elements = tensor_total_elements(specs, count);
    bool good = fwrite(&size, 8, 1, file) == 1 && fwrite(header, 1, size, file) == size &&
                fwrite(values, 4, elements, file) == elements && fflush(file) == 0 && fsync(fileno(file)) == 0;
    int cause = errno;
    good = fclose(file) == 0 && good;
    if (!good || rename(temporary, path) != 0) {
        status = lg_fail(error, LG_IO, "cannot write \"%s\": %s", path, strerror(good ? errno : cause));
        remove(temporary);
    }
out:
    free(header);
    return status;
}

/* ---- reading */

/* Opens and reads the header; *data_start is where the tensors begin, *data_bytes how much follows. */
static enum lg_status read_header(FILE *file, const char *path, json_t **header, uint64_t *data_start,
                                  uint64_t *data_bytes, struct lg_error *error) {
    struct stat about;
    uint64_t size;
    if (fstat(fileno(file), &about) != 0 || fread(&size, 8, 1, file) != 1)
        return lg_fail(error, LG_MALFORMED, "\"%s\" is too short for a safetensors file", path);
    if (size > HEADER_BYTES_MAX || size + 8 > (uint64_t)about.st_size)
        return lg_fail(error, LG_MALFORMED, "\"%s\" is no safetensors file: its header claims %llu bytes", path,
                       (unsigned long long)size);
    char *text = malloc(size + 1);
    if (!text)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the header of \"%s\"", path);
    json_error_t fault = {.text = "the file ends early"};
    bool complete = fread(text, 1, size, file) == size;
    *header = complete ? json_loadb(text, size, JSON_REJECT_DUPLICATES, &fault) : NULL;
    free(text);
    if (!json_is_object(*header))
        return lg_fail(error, LG_MALFORMED, "the header of \"%s\" is no JSON object: %s", path, fault.text);
    *data_start = 8 + size;
    *data_bytes = (uint64_t)about.st_size - *data_start;
    return LG_OK;
}

static bool shape_equal(const json_t *shape, const struct tensor_spec *spec) {
    if (!json_is_array(shape) || json_array_size(shape) != spec->rank)
        return false;
    for (uint32_t i = 0; i < spec->rank; i++)
        if ((uint64_t)json_integer_value(json_array_get(shape, i)) != spec->shape[i])
            return false;
    return true;
}

static void shape_text(const struct tensor_spec *spec, char *text, size_t bytes) {
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < spec->rank && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%llu", i ? "x" : "", (unsigned long long)spec->shape[i]);
}

static enum lg_status read_tensor(FILE *file, const char *path, const json_t *header, uint64_t data_start,
                                  uint64_t data_bytes, const struct tensor_spec *spec, float *values,
                                  struct lg_error *error) {
    const json_t *entry = json_object_get(header, spec->name);
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    char shape[128];
    shape_text(spec, shape, sizeof shape);
    if (!entry)
        return lg_fail(error, LG_NOT_FOUND, "\"%s\" has no tensor \"%s\"", path, spec->name);
    if (!dtype || strcmp(dtype, "F32") != 0 || !shape_equal(json_object_get(entry, "shape"), spec))
        return lg_fail(error, LG_INVALID, "tensor \"%s\" of \"%s\" is not F32 of shape %s, as the job's model has it",
                       spec->name, path, shape);
    json_int_t begin = json_integer_value(json_array_get(offsets, 0)),
               end = json_integer_value(json_array_get(offsets, 1));
    uint64_t bytes = 4 * tensor_elements(spec);
    if (begin < 0 || end < begin || (uint64_t)(end - begin) != bytes || (uint64_t)end > data_bytes)
        return lg_fail(error, LG_MALFORMED, "tensor \"%s\" of \"%s\" has offsets outside the file", spec->name, path);
    if (fseeko(file, (off_t)(data_start + (uint64_t)begin), SEEK_SET) != 0 || fread(values, 1, bytes, file) != bytes)
        return lg_fail(error, LG_IO, "cannot read tensor \"%s\" of \"%s\"", spec->name, path);
    return LG_OK;
}

static enum lg_status refuse_extra(const char *path, json_t *header, const struct tensor_spec *specs, size_t count,
                                   struct lg_error *error) {
    for (size_t i = 0; i < count; i++)
        json_object_del(header, specs[i].name);
    json_object_del(header, "__metadata__");
    if (json_object_size(header) == 0)
        return LG_OK;
    return lg_fail(error, LG_INVALID, "tensor \"%s\" of \"%s\" does not belong to the job's model",
                   json_object_iter_key(json_object_iter(header)), path);
}

enum lg_status safetensors_read(const char *path, const struct tensor_spec *specs, size_t count, float *values,
                                struct lg_error *error) {
    json_t *header = NULL;
    uint64_t data_start = 0, data_bytes = 0;
    FILE *file = fopen(path, "rb");
    if (!file)
        return lg_fail(error, LG_IO, "cannot open \"%s\": %s", path, strerror(errno));
    enum lg_status status = read_header(file, path, &header, &data_start, &data_bytes, error);
    for (size_t i = 0; status == LG_OK && i < count; i++) {
        status = read_tensor(file, path, header, data_start, data_bytes, &specs[i], values, error);
        values += tensor_elements(&specs[i]);
    }
    if (status == LG_OK)
        status = refuse_extra(path, header, specs, count, error);
    json_decref(header);
    fclose(file);
    return status;
}
