/* Any bytes as a file of tokens: it opens or says why not, and what is read is in the vocabulary, also when the file
 * was cut after it was opened. The first byte gives the context, the next two the vocabulary. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/datasets.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void read_all(struct dataset *dataset, bool whole) {
    struct batch batch = {0};
    for (int split = 0; split < 2; split++) {
        uint64_t count = split == DATASET_TRAIN ? dataset->info.train_samples : dataset->info.test_samples;
        for (uint64_t i = 0; i < count && i < 64; i++) {
            struct lg_error error = {0};
            enum lg_status status = dataset_read(dataset, (enum dataset_split)split, i, &i, 1, &batch, &error);
            assert(status == LG_OK ? true : !whole && error.status == status && error.message[0]);
            for (uint32_t j = 0; status == LG_OK && j < dataset->info.context; j++) {
                assert(batch.tokens[j] >= 0 && (uint32_t)batch.tokens[j] < dataset->info.classes);
                assert(batch.labels[j] >= 0 && (uint32_t)batch.labels[j] < dataset->info.classes);
            }
        }
    }
    batch_deinit(&batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    enum { HEAD = 3 };
    char path[64], context[16], vocabulary[16];
    struct lg_error error = {0};
    struct dataset *dataset = NULL;
    if (size < HEAD)
        return 0;
    int file = memfd_create("fuzz", MFD_CLOEXEC);
    assert(file >= 0 && write(file, bytes + HEAD, size - HEAD) == (ssize_t)(size - HEAD));
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    snprintf(context, sizeof context, "%d", bytes[0] % 16 + 1);
    snprintf(vocabulary, sizeof vocabulary, "%d",
             (bytes[1] << 8 | bytes[2]) + 2 > 65536 ? 65536 : (bytes[1] << 8 | bytes[2]) + 2);
    enum lg_status status = open_pairs(PAIRS("kind", "tokens", "train", path, "context", context, "vocabulary",
                                             vocabulary, "validation", bytes[0] & 16 ? "0.5" : "0"),
                                       &dataset, &error);
    if (status == LG_OK) {
        read_all(dataset, true);
        assert(ftruncate(file, (off_t)(size / 2)) == 0);
        read_all(dataset, false);
    } else {
        assert(!dataset && error.status == status && error.message[0]);
    }
    dataset_close(dataset);
    close(file);
    return 0;
}
