#include "tests/support/datasets.h"

#include <dirent.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { PATHS_MAX = 64 };

/* Says why and aborts, which ends the one test that runs in this process. Not ck_assert: fuzzers link this file too. */
static void must(bool fine, const char *format, ...) LG_PRINTF(2, 3);
static void must(bool fine, const char *format, ...) {
    va_list args;
    if (fine)
        return;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

static char folder[128];
static char paths[PATHS_MAX][PATH_MAX];
static int path_count;

void scratch_setup(void) {
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.80s/lagoon-test-XXXXXX", base && *base ? base : "/tmp");
    must(mkdtemp(folder) != NULL, "cannot make the folder %s", folder);
    path_count = 0;
}

void scratch_teardown(void) {
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(path);
    }
    if (entries)
        closedir(entries);
    must(rmdir(folder) == 0, "cannot remove the folder %s", folder);
}

const char *scratch_folder(void) {
    return folder;
}

const char *scratch_write(const char *name, const void *bytes, size_t count) {
    size_t length = strlen(name);
    must(path_count < PATHS_MAX, "more than %d files in one test", PATHS_MAX);
    char *path = paths[path_count++];
    snprintf(path, PATH_MAX, "%s/%s", folder, name);
    bool packed = length > 3 && strcmp(name + length - 3, ".gz") == 0;
    gzFile file = gzopen(path, packed ? "wb" : "wbT");
    must(file && gzwrite(file, bytes, (unsigned)count) == (int)count, "cannot write %s", path);
    must(gzclose(file) == Z_OK, "cannot close %s", path);
    return path;
}

const char *scratch_text(const char *name, const char *text) {
    return scratch_write(name, text, strlen(text));
}

enum lg_status open_pairs(const char *const *pairs, struct dataset **out, struct lg_error *error) {
    struct config *config = config_new();
    enum lg_status status = LG_OK;
    for (; *pairs && status == LG_OK; pairs += 2) {
        char key[128];
        snprintf(key, sizeof key, "dataset.%s", pairs[0]);
        status = config_set(config, key, pairs[1], "test", error);
    }
    if (status == LG_OK)
        status = dataset_open(config, out, error);
    config_free(config);
    return status;
}

struct dataset *open_fine(const char *const *pairs) {
    struct lg_error error = {0};
    struct dataset *dataset = NULL;
    enum lg_status status = open_pairs(pairs, &dataset, &error);
    must(status == LG_OK, "%s: %s", lg_status_name(status), error.message);
    return dataset;
}

void expect_refused(const char *const *pairs, enum lg_status status, const char *const *parts) {
    struct lg_error error = {0};
    struct dataset *dataset = NULL;
    enum lg_status got = open_pairs(pairs, &dataset, &error);
    must(got == status, "%s instead of %s: %s", lg_status_name(got), lg_status_name(status), error.message);
    must(error.status == status && !dataset, "the error and what was returned differ");
    for (; *parts; parts++)
        must(strstr(error.message, *parts) != NULL, "\"%s\" is not in: %s", *parts, error.message);
}

bool same_floats(const float *a, const float *b, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (a[i] != b[i])
            return false;
    }
    return true;
}

const char *shared_data(const char *name) {
    static char path[PATH_MAX];
    const char *base = getenv("LAGOON_DATA");
    snprintf(path, sizeof path, "%s/%s", base && *base ? base : "../shared/data", name);
    if (access(path, R_OK) == 0)
        return path;
    printf("SKIP: data is not there: %s\n", path);
    fflush(stdout);
    return NULL;
}
