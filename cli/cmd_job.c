/* lagoon job: everything about one job; or a sample of what its language model writes. */
#include <string.h>

#include "cli/link.h"
#include "cli/sample.h"
#include "cli/table.h"
#include "common/units.h"

struct job_options {
    int64_t sample, seed;
    double temperature;
    char prompt[OPTION_TEXT_BYTES];
};

#define AT(field) offsetof(struct job_options, field)
static const struct option options[] = {
    {"sample", OPTION_INT, AT(sample), "0", 0, 1000000, NULL, "bytes",
     "write so many bytes with the job's language model instead"},
    {"temperature", OPTION_FLOAT, AT(temperature), "0.8", 0, 10, NULL, NULL,
     "of the sampling; 0: always the likeliest"},
    {"prompt", OPTION_STRING, AT(prompt), "", 0, 0, NULL, NULL, "text to go on from; empty: a line feed"},
    {"seed", OPTION_INT, AT(seed), "1", 0, 9e15, NULL, NULL, "of the sampling"},
};
#undef AT

static const struct option_table table_options = {"job", "options of `lagoon job`", options,
                                                  sizeof options / sizeof *options, sizeof(struct job_options)};

/* "  tokens       125k tokens/s, model FLOPs utilisation 41.2 %", as much of it as is known. */
static void print_tokens(const json_t *job) {
    char rate[UNITS_TEXT_BYTES];
    double tokens = field_number(job, "tokens_per_second", 0), flops = field_number(job, "flops_per_second", 0);
    double peak = field_number(job, "flops_peak", 0);
    if (tokens <= 0)
        return;
    printf("  tokens       %s tokens/s", units_rate(tokens, rate, sizeof rate));
    if (flops > 0)
        printf(", %s model FLOP/s", units_rate(flops, rate, sizeof rate));
    if (flops > 0 && peak > 0)
        printf(", utilisation %.1f %%", 100 * flops / peak);
    printf("\n");
}

static void print_head(const json_t *job) {
    char count[UNITS_TEXT_BYTES], all[UNITS_TEXT_BYTES], bytes[UNITS_TEXT_BYTES], rate[UNITS_TEXT_BYTES];
    const json_t *staleness = json_object_get(job, "staleness");
    double now = field_number(job, "samples_per_second", 0);
    printf("job %lld \"%s\": %s%s%s\n", field_integer(job, "id", 0), field_text(job, "name", "?"),
           field_text(job, "state", "?"), field_text(job, "reason", "")[0] ? ", " : "", field_text(job, "reason", ""));
    printf("  parameters   %s in %lld tensors, %s\n",
           units_count((uint64_t)field_integer(job, "parameters", 0), count, sizeof count),
           (long long)json_array_size(json_object_get(job, "tensors")),
           units_bytes((uint64_t)field_integer(job, "bytes", 0), bytes, sizeof bytes));
    printf("  progress     epoch %lld of %lld, %s of %s samples%s%s%s\n", field_epoch(job),
           field_integer(job, "epochs", 0),
           units_count((uint64_t)field_integer(job, "samples_applied", 0), count, sizeof count),
           units_count((uint64_t)field_integer(job, "samples_total", 0), all, sizeof all), now > 0 ? ", " : "",
           now > 0 ? units_rate(now, rate, sizeof rate) : "", now > 0 ? " samples/s" : "");
    print_tokens(job);
    printf("  staleness    mean %.2f, p99 %lld, max %lld; weight mean %.3f\n", field_number(staleness, "mean", 0),
           field_integer(staleness, "p99", 0), field_integer(staleness, "max", 0), field_number(job, "weight_mean", 0));
    long long slices = field_integer(job, "slices_taken_over", 0), restarts = field_integer(job, "restarts", 0);
    long long dropped = field_integer(job, "dropped", 0);
    printf("  lost work    %lld slice%s taken over, %lld trainer%s restarted, %lld sample%s dropped by policy\n",
           slices, slices == 1 ? "" : "s", restarts, restarts == 1 ? "" : "s", dropped, dropped == 1 ? "" : "s");
}

/* What a trainer's time went into, the parts apart from each other. */
static void time_cells(struct table *table, size_t row, size_t column, const json_t *trainer) {
    double read = field_number(trainer, "read_seconds", 0), copy = field_number(trainer, "copy_seconds", 0);
    double wait = field_number(trainer, "wait_seconds", 0);
    double compute = field_number(trainer, "compute_seconds", 0) - read - copy;
    double send = field_number(trainer, "communication_seconds", 0) - wait;
    const double times[] = {compute, read, copy, wait, send};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        table_cell(table, row, column + i, "%.1f s", times[i] > 0 ? times[i] : 0);
}

static void print_trainers(const json_t *job) {
    struct table table;
    json_t *trainer;
    size_t i;
    char text[UNITS_TEXT_BYTES];
    table_init(&table, (const char *const[]){">TRAINER", "ON", "DEVICE", "STATE", ">STEPS", ">SAMPLES", ">SAMPLES/S",
                                             ">COMPUTE", ">READ", ">COPY", ">WAIT", ">SEND", "VIA", ">STALENESS",
                                             ">WEIGHT", ">MEMORY", NULL});
    json_array_foreach(json_object_get(job, "trainers"), i, trainer) {
        size_t row = table_row(&table);
        table_cell(&table, row, 0, "%lld", field_integer(trainer, "trainer", 0));
        table_cell(&table, row, 1, "%s", field_text(trainer, "agent", "?"));
        table_cell(&table, row, 2, "%s", field_text(trainer, "device", "?"));
        table_cell(&table, row, 3, "%s", field_text(trainer, "state", "?"));
        table_cell(&table, row, 4, "%lld", field_integer(trainer, "steps", 0));
        units_count((uint64_t)field_integer(trainer, "samples", 0), text, sizeof text);
        table_cell(&table, row, 5, "%s", text);
        double now = field_number(trainer, "samples_per_second", 0);
        table_cell(&table, row, 6, "%s", now > 0 ? units_rate(now, text, sizeof text) : "-");
        time_cells(&table, row, 7, trainer);
        table_cell(&table, row, 12, "%s", field_text(trainer, "transport", "-"));
        if (!json_object_get(trainer, "staleness_mean")) { /* has ended */
            for (size_t column = 13; column < 16; column++)
                table_cell(&table, row, column, "-");
            continue;
        }
        table_cell(&table, row, 13, "%.2f", field_number(trainer, "staleness_mean", 0));
        table_cell(&table, row, 14, "%.3f", field_number(trainer, "weight_mean", 0));
        double memory = field_number(trainer, "memory_used_bytes", 0);
        table_cell(&table, row, 15, "%s", memory > 0 ? units_bytes((uint64_t)memory, text, sizeof text) : "-");
    }
    printf("\n");
    table_print(&table, "no trainers run", stdout);
}

static void print_evaluations(const json_t *job) {
    struct table table;
    json_t *entry;
    size_t i;
    char count[UNITS_TEXT_BYTES];
    table_init(&table, (const char *const[]){">EPOCH", ">LOSS", ">ACCURACY", ">PREDICTIONS", NULL});
    json_array_foreach(json_object_get(job, "evaluations"), i, entry) {
        size_t row = table_row(&table);
        table_cell(&table, row, 0, "%lld", field_integer(entry, "epoch", 0));
        table_cell(&table, row, 1, "%.4f", field_number(entry, "loss", 0));
        table_cell(&table, row, 2, "%.2f %%", 100 * field_number(entry, "accuracy", 0));
        units_count((uint64_t)field_integer(entry, "predictions", 0), count, sizeof count);
        table_cell(&table, row, 3, "%s", count);
    }
    printf("\n");
    table_print(&table, "no evaluation yet", stdout);
}

static void print_ledger(const json_t *job) {
    struct table table;
    json_t *entry;
    size_t i;
    char count[UNITS_TEXT_BYTES];
    if (json_array_size(json_object_get(job, "ledger")) == 0)
        return;
    table_init(&table,
               (const char *const[]){">SHARD", ">EPOCH", ">APPLIED, LEAST", ">APPLIED, MOST", ">DROPPED", NULL});
    json_array_foreach(json_object_get(job, "ledger"), i, entry) {
        size_t row = table_row(&table);
        table_cell(&table, row, 0, "%lld", field_integer(entry, "shard", 0));
        table_cell(&table, row, 1, "%lld", field_integer(entry, "epoch", 0));
        units_count((uint64_t)field_integer(entry, "samples_least", 0), count, sizeof count);
        table_cell(&table, row, 2, "%s", count);
        units_count((uint64_t)field_integer(entry, "samples_most", 0), count, sizeof count);
        table_cell(&table, row, 3, "%s", count);
        table_cell(&table, row, 4, "%lld", field_integer(entry, "dropped", 0));
    }
    printf("\nsamples as the shards' own ledgers count them, per unit:\n");
    table_print(&table, "", stdout);
}

static void print_history(const json_t *job) {
    json_t *entry;
    size_t i;
    printf("\nhistory:\n");
    json_array_foreach(json_object_get(job, "history"), i, entry) {
        printf("  %s  %s\n", field_text(entry, "at", ""), field_text(entry, "text", ""));
    }
}

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    const struct job_options *wanted = own;
    (void)argc;
    struct lg_error error = {0};
    json_t *job = NULL;
    if (wanted->sample > 0) {
        const struct sample_request request = {.job = argv[0],
                                               .bytes = (uint64_t)wanted->sample,
                                               .seed = (uint64_t)wanted->seed,
                                               .temperature = wanted->temperature,
                                               .prompt = wanted->prompt};
        return sample_text(cli, &request, stdout);
    }
    if (link_query_once(cli, "job", argv[0], &job, &error) != LG_OK)
        return cli_fail(&error);
    if (cli->globals.json) {
        print_json(job, stdout);
    } else {
        print_head(job);
        print_trainers(job);
        print_evaluations(job);
        print_ledger(job);
        print_history(job);
    }
    json_decref(job);
    return CLI_EXIT_OK;
}

const struct cli_command cmd_job = {
    .name = "job",
    .summary = "everything about one job, or a sample of its language model",
    .arguments = "JOB",
    .least = 1,
    .most = 1,
    .details = "JOB is a name (the newest job of that name) or a number.\n\n  lagoon job shakespeare --sample 500",
    .options = &table_options,
    .run = run,
};
