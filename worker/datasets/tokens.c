/* Files of token ids, 16 bits each with the low byte first, as tokenizers' scripts leave them: for language models with
 * vocabularies beyond single bytes.
 *
 * Windows of context + 1 tokens; training windows start at offset + i * context, where the offset differs by epoch, so
 * that over the epochs every alignment is seen. Files may be larger than memory: opening one reads it through once (its
 * ids are checked, its fingerprint is taken), after that windows are read where they lie, by way of the system's cache
 * that all trainers of a machine share. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/random.h"
#include "worker/dataset.h"
#include "worker/datasets/input.h"

struct tokens_options {
    char train[OPTION_TEXT_BYTES], test[OPTION_TEXT_BYTES];
    int64_t vocabulary, context, seed;
    double validation;
};

#define ENTRY(key_, type_, field_, ...)                                                                                \
    { .key = key_, .type = type_, .offset = offsetof(struct tokens_options, field_), __VA_ARGS__ }
static const struct option options[] = {
    ENTRY("train", OPTION_STRING, train, .fallback = NULL,
          .help = "file to train on: token ids of 16 bits, the low byte first, and nothing else"),
    ENTRY("test", OPTION_STRING, test, .fallback = "",
          .help = "file to evaluate on; empty: a part of the first, see validation"),
    ENTRY("validation", OPTION_FLOAT, validation, .fallback = "0.01", .least = 0, .most = 0.9,
          .help = "without a test file: fraction of the train file, from its end, that is kept for evaluation"),
    ENTRY("vocabulary", OPTION_INT, vocabulary, .fallback = "50304", .least = 2, .most = 65536, .unit = "tokens",
          .help = "ids are 0 up to one less than this; GPT-2's 50257 are rounded up to a multiple of 64, which is "
                  "faster"),
    ENTRY("context", OPTION_INT, context, .fallback = "1024", .least = 1, .most = 65536, .unit = "tokens",
          .help = "inputs per sample"),
    ENTRY("seed", OPTION_INT, seed, .fallback = "1", .least = 0, .most = 9007199254740992.0,
          .help = "decides where the windows of an epoch start"),
};
#undef ENTRY

static const struct option_table option_table = {
    .name = "dataset tokens",
    .summary = "token ids in files, for language models",
    .options = options,
    .count = sizeof options / sizeof options[0],
    .config_bytes = sizeof(struct tokens_options),
};

enum { TOKEN_BYTES = 2, SCAN_BYTES = 1 << 20 };

struct tokens_file {
    char path[OPTION_TEXT_BYTES];
    int file; /* 0: not open */
    uint64_t tokens;
    uint64_t fingerprint;
};

struct tokens_dataset {
    struct dataset base;
    struct tokens_file files[2];
    const struct tokens_file *of[2]; /* by split */
    uint64_t first[2];               /* token at which the split begins, by split */
    uint8_t *window;                 /* [context + 1] tokens as they lie in the file */
    uint64_t seed;
};

static uint32_t token_at(const uint8_t *bytes, size_t at) {
    return bytes[TOKEN_BYTES * at] | (uint32_t)bytes[TOKEN_BYTES * at + 1] << 8;
}

static void tokens_close(struct dataset *dataset) {
    struct tokens_dataset *data = (struct tokens_dataset *)dataset;
    for (int i = 0; i < 2; i++)
        if (data->files[i].file > 0)
            close(data->files[i].file);
    free(data->window);
    free(data);
}

/* ---- opening */

static enum lg_status open_file(struct tokens_file *file, const char *path, const char *option,
                                struct lg_error *error) {
    struct stat info;
    snprintf(file->path, sizeof file->path, "%s", path);
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* not kept waiting by a pipe */
    if (opened < 0 || fstat(opened, &info) != 0) {
        int code = errno;
        if (opened >= 0)
            close(opened);
        return lg_fail(error, code == ENOENT ? LG_NOT_FOUND : LG_IO,
                       "cannot open \"%s\": %s; set \"%s\" to a file that is there (a relative path starts where the "
                       "worker was started)",
                       path, strerror(code), option);
    }
    file->file = opened;
    if (!S_ISREG(info.st_mode))
        return lg_fail(error, LG_INVALID, "cannot read \"%s\": not a regular file; set \"%s\" to a file", path, option);
    size_t length = strlen(path);
    if (length > 3 && strcmp(path + length - 3, ".gz") == 0)
        return lg_fail(error, LG_UNSUPPORTED,
                       "cannot read \"%s\": windows are read where they lie, which a packed file does not allow; "
                       "unpack it with gunzip and set \"%s\" to the result",
                       path, option);
    return LG_OK;
}

/* Exactly `count` bytes from `offset`, or fewer at the end of the file; -1: errno says why not. */
static ssize_t read_at(int file, uint8_t *bytes, size_t count, uint64_t offset) {
    size_t done = 0;
    while (done < count) {
        ssize_t got = pread(file, bytes + done, count - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

/* The first id of `count` that is not in the vocabulary, or `count`. */
static size_t find_bad(const uint8_t *bytes, size_t count, uint32_t vocabulary) {
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++) /* nearly always all there is to do, and vectorised */
        largest = token_at(bytes, i) > largest ? token_at(bytes, i) : largest;
    for (size_t i = 0; largest >= vocabulary && i < count; i++)
        if (token_at(bytes, i) >= vocabulary)
            return i;
    return count;
}

static enum lg_status fail_id(const struct tokens_file *file, uint64_t token, uint32_t id, uint32_t vocabulary,
                              struct lg_error *error) {
    return lg_fail(error, LG_MALFORMED,
                   "\"%s\" has token id %u at byte %llu (token %llu): expected 0 to %u; set \"dataset.vocabulary\" if "
                   "there are more, or write ids as 16 bits, the low byte first",
                   file->path, id, (unsigned long long)(token * TOKEN_BYTES), (unsigned long long)token,
                   vocabulary - 1);
}

/* Reads the file through: counts its tokens, checks them, takes the fingerprint. */
static enum lg_status scan(struct tokens_file *file, uint32_t vocabulary, uint8_t *chunk, struct lg_error *error) {
    uint64_t bytes = 0;
    file->fingerprint = fingerprint_bytes(0, "tokens1", 7);
    for (;;) {
        ssize_t got = read_at(file->file, chunk, SCAN_BYTES, bytes);
        if (got < 0)
            return lg_fail(error, LG_IO, "\"%s\" cannot be read beyond byte %llu: %s", file->path,
                           (unsigned long long)bytes, strerror(errno));
        size_t whole = (size_t)got / TOKEN_BYTES, bad = find_bad(chunk, whole, vocabulary);
        if (bad < whole)
            return fail_id(file, bytes / TOKEN_BYTES + bad, token_at(chunk, bad), vocabulary, error);
        file->fingerprint = fingerprint_bytes(file->fingerprint, chunk, (size_t)got);
        bytes += (uint64_t)got;
        if (got < SCAN_BYTES)
            break;
    }
    file->tokens = bytes / TOKEN_BYTES;
    if (bytes % TOKEN_BYTES)
        return lg_fail(error, LG_MALFORMED,
                       "\"%s\" has %llu bytes: expected an even number, two for each token; it is cut short, or not "
                       "of 16-bit ids",
                       file->path, (unsigned long long)bytes);
    return LG_OK;
}

static enum lg_status load(struct tokens_dataset *data, const struct tokens_options *config, struct lg_error *error) {
    uint8_t *chunk = malloc(SCAN_BYTES);
    data->window = malloc(((size_t)config->context + 1) * TOKEN_BYTES);
    if (!chunk || !data->window) {
        free(chunk);
        return lg_fail(error, LG_NO_MEMORY, "no memory for dataset \"tokens\"");
    }
    enum lg_status status = open_file(&data->files[0], config->train, "dataset.train", error);
    if (status == LG_OK && config->test[0])
        status = open_file(&data->files[1], config->test, "dataset.test", error);
    for (int i = 0; i < 2 && status == LG_OK; i++)
        if (data->files[i].file > 0)
            status = scan(&data->files[i], (uint32_t)config->vocabulary, chunk, error);
    free(chunk);
    return status;
}

/* ---- windows */

/* How many lie in `tokens` whatever the offset, which is at most context - 1 (train) or 0 (test). */
static uint64_t train_windows(uint64_t tokens, uint64_t context) {
    return tokens / context > 1 ? tokens / context - 1 : 0;
}

static uint64_t test_windows(uint64_t tokens, uint64_t context) {
    return tokens > 0 ? (tokens - 1) / context : 0;
}

/* Which tokens each split has, and what there is to say about them. */
static enum lg_status divide(struct tokens_dataset *data, const struct tokens_options *config, struct lg_error *error) {
    bool apart = data->files[1].file > 0;
    uint64_t all = data->files[0].tokens, context = (uint64_t)config->context;
    uint64_t kept = apart ? 0 : (uint64_t)floor((double)all * config->validation);
    uint64_t test = apart ? data->files[1].tokens : kept;
    data->of[DATASET_TRAIN] = &data->files[0];
    data->of[DATASET_TEST] = &data->files[apart];
    data->first[DATASET_TEST] = apart ? 0 : all - kept;
    uint64_t print = fingerprint_bytes(data->files[0].fingerprint, &data->files[1].fingerprint, sizeof(uint64_t));
    print = fingerprint_number(fingerprint_number(print, (double)context), (double)kept);
    print = fingerprint_number(print, (double)config->vocabulary);
    data->base.info = (struct dataset_info){
        .form = DATASET_TOKENS,
        .train_samples = train_windows(all - kept, context),
        .test_samples = test_windows(test, context),
        .classes = (uint32_t)config->vocabulary,
        .context = (uint32_t)context,
        .fingerprint = fingerprint_number(print, (double)config->seed),
    };
    bool tests = apart || config->validation > 0;
    if (data->base.info.train_samples > 0 && (!tests || data->base.info.test_samples > 0))
        return LG_OK;
    return lg_fail(error, LG_INVALID,
                   "there are %llu tokens to train on in \"%.150s\" and %llu to evaluate on in \"%.150s\": expected at "
                   "least %llu and %llu with a context of %llu; lower \"dataset.context\"",
                   (unsigned long long)(all - kept), data->of[DATASET_TRAIN]->path, (unsigned long long)test,
                   data->of[DATASET_TEST]->path, (unsigned long long)(2 * context), (unsigned long long)context + 1,
                   (unsigned long long)context);
}

static enum lg_status tokens_open(const void *option_values, struct dataset **out, struct lg_error *error) {
    const struct tokens_options *config = option_values;
    struct tokens_dataset *data = calloc(1, sizeof *data);
    if (!data)
        return lg_fail(error, LG_NO_MEMORY, "no memory for dataset \"tokens\"");
    data->base.kind = &dataset_tokens;
    data->seed = (uint64_t)config->seed;
    enum lg_status status = load(data, config, error);
    if (status == LG_OK)
        status = divide(data, config, error);
    if (status != LG_OK)
        tokens_close(&data->base);
    else
        *out = &data->base;
    return status;
}

/* The window from token `first` to data->window. What was checked once may have been written over since. */
static enum lg_status read_window(struct tokens_dataset *data, const struct tokens_file *file, uint64_t first,
                                  struct lg_error *error) {
    size_t count = (size_t)data->base.info.context + 1;
    ssize_t got = read_at(file->file, data->window, count * TOKEN_BYTES, first * TOKEN_BYTES);
    if (got < (ssize_t)(count * TOKEN_BYTES))
        return lg_fail(error, LG_IO, "\"%s\" cannot be read at byte %llu: %s; leave it alone while jobs train on it",
                       file->path, (unsigned long long)(first * TOKEN_BYTES),
                       got < 0 ? strerror(errno) : "it is shorter than when it was opened");
    size_t bad = find_bad(data->window, count, data->base.info.classes);
    if (bad < count)
        return fail_id(file, first + bad, token_at(data->window, bad), data->base.info.classes, error);
    return LG_OK;
}

static enum lg_status tokens_read(struct dataset *dataset, enum dataset_split split, uint64_t epoch,
                                  const uint64_t *indices, uint32_t count, struct batch *batch,
                                  struct lg_error *error) {
    struct tokens_dataset *data = (struct tokens_dataset *)dataset;
    size_t context = dataset->info.context;
    uint64_t first = split == DATASET_TEST ? data->first[split] : random_mix(data->seed, epoch) % context;
    enum lg_status status = batch_reserve_tokens(batch, count, dataset->info.context, error);
    for (uint32_t i = 0; status == LG_OK && i < count; i++) {
        status = read_window(data, data->of[split], first + indices[i] * context, error);
        for (size_t j = 0; status == LG_OK && j < context; j++) {
            batch->tokens[i * context + j] = (int32_t)token_at(data->window, j);
            batch->labels[i * context + j] = (int32_t)token_at(data->window, j + 1);
        }
    }
    return status;
}

const struct dataset_kind dataset_tokens = {
    .name = "tokens",
    .summary = "token ids of 16 bits in files, for language models",
    .options = &option_table,
    .open = tokens_open,
    .read = tokens_read,
    .close = tokens_close,
};
