/* For tests of datasets: files in a scratch folder, datasets from key/value pairs. */
#ifndef LAGOON_TESTS_SUPPORT_DATASETS_H
#define LAGOON_TESTS_SUPPORT_DATASETS_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/dataset.h"

/* A fixture pair: a fresh folder, and its removal with everything in it. */
void scratch_setup(void);
void scratch_teardown(void);
/* Writes a file into the folder, through gzip when the name ends in ".gz". Returns its path; good until teardown. */
const char *scratch_write(const char *name, const void *bytes, size_t count);
const char *scratch_text(const char *name, const char *text);
const char *scratch_folder(void);

/* Opens the dataset that the pairs (key without "dataset.", value, .., NULL) describe. */
enum lg_status open_pairs(const char *const *pairs, struct dataset **out, struct lg_error *error);
/* The same, where it must succeed, or must fail with this status and a message that contains all parts (NULL ends). */
struct dataset *open_fine(const char *const *pairs);
void expect_refused(const char *const *pairs, enum lg_status status, const char *const *parts);
#define PAIRS(...) ((const char *const[]){__VA_ARGS__, NULL})

bool same_floats(const float *a, const float *b, size_t count);

/* The path of a file of the shared test data, or NULL when it is not there; then a SKIP line has been printed. */
const char *shared_data(const char *name);

#endif
