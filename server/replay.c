#include "server/replay.h"

#include <stdlib.h>
#include <string.h>

#include "common/block.h"

struct replay {
    const struct replay_options *options;
    struct replay_summary *summary;
    struct recording *recording;
    struct shard *shard;
    const struct shard_input *input; /* being handled */
    /* decided, but not yet compared */
    struct recorded_decision *made;
    size_t made_count, made_first, made_capacity;
    bool no_memory;
};

static void on_send(void *context, uint64_t route, const struct wire_message *message,
                    struct snapshot *const *snapshots, size_t snapshot_count) {
    (void)context, (void)route, (void)message, (void)snapshots, (void)snapshot_count;
}

static void on_decide(void *context, const struct shard_decision *decision, const struct wire_message *push) {
    struct replay *replay = context;
    if (replay->made_count == replay->made_capacity) {
        size_t capacity = replay->made_capacity ? 2 * replay->made_capacity : 16;
        struct recorded_decision *made = realloc(replay->made, capacity * sizeof *made);
        if (!made) {
            replay->no_memory = true;
            return;
        }
        replay->made = made;
        replay->made_capacity = capacity;
    }
    replay->made[replay->made_count++] = recorded_decision_of(decision, push);
    replay->summary->decisions++;
    if (replay->options->show)
        replay->options->show(replay->options->context, replay->input, decision);
}

static enum lg_status differs(const struct recorded_decision *was, const char *what, double then, double now,
                              struct lg_error *error) {
    return lg_fail(error, LG_INVALID,
                   "decision %llu (push %llu of session %llu, job %llu) came out differently: %s was %.9g and is %.9g",
                   (unsigned long long)was->order, (unsigned long long)was->clock, (unsigned long long)was->session,
                   (unsigned long long)was->job, what, then, now);
}

static double of_bits(uint64_t bits) {
    uint32_t low = (uint32_t)bits;
    float value;
    memcpy(&value, &low, sizeof value);
    return (double)value;
}

static enum lg_status compare(const struct recorded_decision *was, const struct recorded_decision *is,
                              struct lg_error *error) {
    if (memcmp(was, is, sizeof *was) == 0)
        return LG_OK;
    if (was->kind != is->kind)
        return differs(was, "its kind", (double)was->kind, (double)is->kind, error);
    if (was->weight_bits != is->weight_bits)
        return differs(was, "the weight", of_bits(was->weight_bits), of_bits(is->weight_bits), error);
    if (was->rate_bits != is->rate_bits)
        return differs(was, "the learning rate", of_bits(was->rate_bits), of_bits(is->rate_bits), error);
    if (was->staleness != is->staleness)
        return differs(was, "the staleness", (double)was->staleness, (double)is->staleness, error);
    if (was->version_after != is->version_after)
        return differs(was, "the version", (double)version_counter(was->version_after),
                       (double)version_counter(is->version_after), error);
    return differs(was, "what it was about", (double)was->seq, (double)is->seq, error);
}

static enum lg_status take_decision(struct replay *replay, const struct recorded_decision *was,
                                    struct lg_error *error) {
    if (replay->no_memory)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the decisions of a replay");
    if (replay->made_first == replay->made_count)
        return lg_fail(error, LG_INVALID, "decision %llu was recorded, but is not made again",
                       (unsigned long long)was->order);
    enum lg_status status = compare(was, &replay->made[replay->made_first++], error);
    if (replay->made_first == replay->made_count)
        replay->made_first = replay->made_count = 0;
    return status;
}

static enum lg_status take_digest(struct replay *replay, const struct recorded_digest *was, struct lg_error *error) {
    uint64_t is = shard_digest(replay->shard, was->job);
    if (is != was->digest)
        return lg_fail(
            error, LG_INVALID,
            "after %llu decisions the values of job %llu are others: their checksum was %016llx and is %016llx",
            (unsigned long long)replay->summary->decisions, (unsigned long long)was->job,
            (unsigned long long)was->digest, (unsigned long long)is);
    replay->summary->digests++;
    return LG_OK;
}

static enum lg_status all_compared(const struct replay *replay, struct lg_error *error) {
    if (replay->made_first == replay->made_count)
        return LG_OK;
    return lg_fail(error, LG_INVALID, "decision %llu is made, but was not recorded",
                   (unsigned long long)replay->made[replay->made_first].order);
}

static enum lg_status take_input(struct replay *replay, const struct shard_input *input, struct lg_error *error) {
    struct replay_summary *summary = replay->summary;
    enum lg_status status = all_compared(replay, error);
    if (status != LG_OK)
        return status;
    if (summary->inputs++ == 0)
        summary->first_ns = input->now_ns;
    summary->last_ns = input->now_ns;
    replay->input = input;
    if (replay->options->hear)
        replay->options->hear(replay->options->context, input);
    shard_receive(replay->shard, input);
    replay->input = NULL;
    return LG_OK;
}

static enum lg_status play(struct replay *replay, struct lg_error *error) {
    enum lg_status status = LG_OK;
    struct recorded next = {.kind = RECORDED_INPUT};
    uint64_t until = replay->options->until;
    while (status == LG_OK) {
        status = recording_next(replay->recording, &next, error);
        if (status != LG_OK || next.kind == RECORDED_END || next.kind == RECORDED_CUT)
            break;
        if (next.kind == RECORDED_INPUT && until > 0 && replay->summary->decisions >= until)
            break;
        if (next.kind == RECORDED_INPUT)
            status = take_input(replay, &next.input, error);
        else if (next.kind == RECORDED_DECISION)
            status = take_decision(replay, &next.decision, error);
        else
            status = take_digest(replay, &next.digest, error);
    }
    replay->summary->cut = status == LG_OK && next.kind == RECORDED_CUT;
    replay->summary->cut_at = next.at;
    if (status == LG_OK && next.kind == RECORDED_END)
        status = all_compared(replay, error);
    return status;
}

enum lg_status replay_run(const char *path, const struct replay_options *options, struct shard **out,
                          struct replay_summary *summary, struct lg_error *error) {
    struct replay replay = {.options = options, .summary = summary};
    struct shard_config config = {.isa = options->isa};
    const struct shard_sink sink = {.context = &replay, .send = on_send, .decide = on_decide};
    *summary = (struct replay_summary){0};
    *out = NULL;
    enum lg_status status = recording_open(path, &replay.recording, &config, error);
    if (status != LG_OK)
        return status;
    memcpy(summary->version, recording_version(replay.recording), sizeof summary->version);
    summary->shard = config.index;
    status = shard_new(&config, &sink, &replay.shard, error);
    if (status == LG_OK)
        status = play(&replay, error);
    if (status != LG_OK && strcmp(summary->version, LAGOON_VERSION) != 0)
        status =
            lg_fail_prefix(error, status, "recorded by lagoon %s, replayed by %s", summary->version, LAGOON_VERSION);
    recording_close(replay.recording);
    free(replay.made);
    if (status == LG_OK)
        *out = replay.shard;
    else
        shard_free(replay.shard);
    return status;
}
