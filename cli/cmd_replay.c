/* lagoon replay: what a server recorded, once more. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/replayed.h"
#include "cli/table.h"
#include "common/units.h"
#include "server/replay.h"

struct replay_command_options {
    int64_t until;
    bool decisions;
    char output[OPTION_TEXT_BYTES];
    char isa[OPTION_TEXT_BYTES];
};

static const struct option options[] = {
    {"decisions", OPTION_BOOL, offsetof(struct replay_command_options, decisions), "no", 0, 0, NULL, NULL,
     "print every decision: when, whose push, its staleness, weight and learning rate"},
    {"until", OPTION_INT, offsetof(struct replay_command_options, until), "0", 0, 9e15, NULL, "decisions",
     "stop after so many decisions of each shard; 0 goes on to the end"},
    {"output", OPTION_STRING, offsetof(struct replay_command_options, output), "", 0, 0, NULL, NULL,
     "file to write the parameters to (safetensors); give the recordings of all shards of the job"},
    {"isa", OPTION_CHOICE, offsetof(struct replay_command_options, isa), "auto", 0, 0, "auto|base|avx2|avx512", NULL,
     "instruction set of the update kernels; results are the same bits for all"},
};

static const struct option_table table = {"replay", "options of `lagoon replay`", options,
                                          sizeof options / sizeof *options, sizeof(struct replay_command_options)};

struct player {
    const struct replay_command_options *wanted;
    struct replayed replayed;
    struct lg_error error; /* of `replayed` */
    int64_t first_ns;
};

static void on_input(void *context, const struct shard_input *input) {
    struct player *player = context;
    if (player->first_ns == 0)
        player->first_ns = input->now_ns;
    if (input->message->kind == WIRE_JOB_OPEN && player->error.status == LG_OK)
        player->error.status = replayed_open(&player->replayed, input->message, &player->error);
}

static void on_decision(void *context, const struct shard_input *input, const struct shard_decision *decision) {
    const struct player *player = context;
    printf("%10" PRIu64 "  %11.6f  %016" PRIx64 "  %8" PRIu64 "  %9" PRIu64 "  %9" PRIu64 "  %8.6g  %10.6g  %" PRIu64
           ".%" PRIu64 "\n",
           decision->order, (double)(input->now_ns - player->first_ns) * 1e-9, decision->session, decision->clock,
           decision->samples_after, decision->staleness, (double)decision->weight, (double)decision->learning_rate,
           version_epoch(decision->version_after), version_counter(decision->version_after));
}

/* ---- what is said about it */

static json_t *job_document(const struct wire_shard_job_stats *job, const char *name) {
    return json_pack("{s:I, s:s, s:I, s:I, s:I, s:f, s:I, s:f}", "job", (json_int_t)job->job, "name", name, "pushes",
                     (json_int_t)job->pushes, "samples", (json_int_t)job->samples, "dropped", (json_int_t)job->dropped,
                     "staleness_mean", job->staleness_mean, "staleness_max", (json_int_t)job->staleness_max,
                     "weight_mean", job->weight_mean);
}

static json_t *document_of(const char *path, const struct replay_summary *summary) {
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:b, s:[]}", "file", path, "version", summary->version,
                     "shard", (json_int_t)summary->shard, "inputs", (json_int_t)summary->inputs, "decisions",
                     (json_int_t)summary->decisions, "checksums", (json_int_t)summary->digests, "seconds",
                     (double)(summary->last_ns - summary->first_ns) * 1e-9, "cut", summary->cut, "jobs");
}

static void print_summary(const char *path, const json_t *document, const struct replay_summary *summary) {
    const json_t *jobs = json_object_get(document, "jobs");
    printf("%s: shard %u, recorded by lagoon %s over %.1f s: %" PRIu64 " messages, %" PRIu64 " decisions\n", path,
           summary->shard, summary->version, (double)(summary->last_ns - summary->first_ns) * 1e-9, summary->inputs,
           summary->decisions);
    for (size_t i = 0; i < json_array_size(jobs); i++) {
        const json_t *job = json_array_get(jobs, i);
        printf("  job \"%s\": %lld pushes, %lld samples, %lld dropped; staleness mean %.2f, most %lld; mean weight "
               "%.3f\n",
               field_text(job, "name", "?"), field_integer(job, "pushes", 0), field_integer(job, "samples", 0),
               field_integer(job, "dropped", 0), field_number(job, "staleness_mean", 0),
               field_integer(job, "staleness_max", 0), field_number(job, "weight_mean", 1));
    }
    printf("  every decision is the same%s",
           summary->digests == 0 ? "; there are no checksums of values to compare" : "");
    if (summary->digests > 0)
        printf(", and so are %" PRIu64 " checksums of the values", summary->digests);
    printf("\n");
    if (summary->cut)
        printf("  the recording ends within the record at byte %" PRIu64 ": the server was killed, or its disk was "
               "full\n",
               summary->cut_at);
}

/* ---- the command */

static enum lg_status play_file(struct player *player, const char *path, enum isa isa, json_t *documents, bool json,
                                struct lg_error *error) {
    const struct replay_options play = {.isa = isa,
                                        .until = (uint64_t)player->wanted->until,
                                        .hear = on_input,
                                        .show = player->wanted->decisions && !json ? on_decision : NULL,
                                        .context = player};
    struct replay_summary summary;
    struct shard *shard = NULL;
    struct wire_shard_job_stats stats[64];
    player->first_ns = 0;
    if (play.show)
        printf("%10s  %11s  %-16s  %8s  %9s  %9s  %8s  %10s  %s\n", "DECISION", "SECONDS", "SESSION", "PUSH", "SAMPLES",
               "STALENESS", "WEIGHT", "RATE", "VERSION");
    enum lg_status status = replay_run(path, &play, &shard, &summary, error);
    if (status != LG_OK)
        return status;
    size_t count = shard_stats(shard, stats, sizeof stats / sizeof *stats);
    json_t *document = document_of(path, &summary);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(
            json_object_get(document, "jobs"),
            job_document(&stats[count - 1 - i], replayed_name(&player->replayed, stats[count - 1 - i].job)));
    if (!json)
        print_summary(path, document, &summary);
    json_array_append_new(documents, document);
    replayed_collect(&player->replayed, shard);
    shard_free(shard);
    if (player->error.status == LG_OK)
        return LG_OK;
    *error = player->error;
    return error->status;
}

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    struct player player = {.wanted = own};
    struct lg_error error = {0};
    enum isa isa = ISA_BASE;
    json_t *documents = json_array();
    enum lg_status status = isa_parse(player.wanted->isa, &isa, &error);
    for (int i = 0; status == LG_OK && i < argc; i++)
        status = play_file(&player, argv[i], isa, documents, cli->globals.json, &error);
    if (status == LG_OK && cli->globals.json)
        print_json(documents, stdout);
    if (status == LG_OK && player.wanted->output[0])
        status = replayed_write(&player.replayed, player.wanted->output, &error);
    if (status == LG_OK && player.wanted->output[0] && !cli->globals.json)
        printf("%s: the parameters as they are then\n", player.wanted->output);
    json_decref(documents);
    replayed_deinit(&player.replayed);
    return status == LG_OK ? CLI_EXIT_OK : cli_fail(&error);
}

const struct cli_command cmd_replay = {
    .name = "replay",
    .summary = "give a server's recording to a shard again, and compare",
    .arguments = "FILE...",
    .least = 1,
    .most = 64,
    .details = "`lagoon-server --record=FILE` writes down all that its shard is given and decides. This gives the same "
               "to a new shard, without network and workers, compares every decision and the checksums of the values "
               "with the recorded ones, and stops with an error at the first difference. With --until the parameters "
               "can be looked at as they were after any push.",
    .options = &table,
    .run = run,
};
