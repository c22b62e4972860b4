/* What beats say of speed. Beats come about once a second and steps may take longer, so what is shown is over the last
 * five to ten seconds. */
#include <stdlib.h>
#include <string.h>

#include "server/coordinator/core.h"

/* ---- trainers: where their time goes */

void numbers_take_times(struct coordinator *core, struct session *session, const struct wire_trainer_beat *beat) {
    session->times =
        (struct trainer_times){beat->compute_ns, beat->communication_ns, beat->read_ns, beat->copy_ns, beat->wait_ns};
    session->copy_bytes = beat->copy_bytes;
    session->memory_used_bytes = beat->memory_used_bytes;
    session->tokens_per_second = beat->tokens_per_second;
    session->flops_per_second = beat->flops_per_second;
    session->flops_peak = beat->flops_peak;
    if (session->window_ns != 0 && core_since_ms(core, session->window_ns) < CORE_WINDOW_MS)
        return;
    session->windows[0] = session->window_ns ? session->windows[1] : (struct trainer_times){0};
    session->windows[1] = session->times;
    session->window_ns = core->now.now_ns;
}

/* Zero where a counter went back: a trainer may say anything. */
static uint64_t growth(uint64_t before, uint64_t now) {
    return now > before ? now - before : 0;
}

struct trainer_times numbers_recent_times(const struct session *session) {
    const struct trainer_times *now = &session->times, *then = &session->windows[0];
    struct trainer_times recent = {
        .compute_ns = growth(then->compute_ns, now->compute_ns),
        .communication_ns = growth(then->communication_ns, now->communication_ns),
        .read_ns = growth(then->read_ns, now->read_ns),
        .copy_ns = growth(then->copy_ns, now->copy_ns),
        .wait_ns = growth(then->wait_ns, now->wait_ns),
    };
    return recent.compute_ns + recent.communication_ns > 0 ? recent : *now;
}

/* ---- shards: what they do */

void numbers_take_work(struct coordinator *core, struct job *job, size_t slot) {
    const struct wire_shard_job_stats *stats = &job->stats[slot];
    struct shard_work *work = job->work[slot];
    const struct shard_work now = {core->now.now_ns, stats->pushes, stats->pulls,
                                   stats->push_bytes + stats->pull_bytes};
    bool anew = stats->pushes < work[2].pushes || stats->pulls < work[2].pulls; /* it began from zero */
    work[2] = now;
    if (work[1].at_ns == 0 || anew) {
        work[0] = work[1] = now;
    } else if (core_since_ms(core, work[1].at_ns) >= CORE_WINDOW_MS) {
        work[0] = work[1];
        work[1] = now;
    }
}

bool numbers_rates(const struct job *job, size_t slot, double *pushes, double *pulls, double *bytes) {
    const struct shard_work *then = &job->work[slot][0], *now = &job->work[slot][2];
    *pushes = *pulls = *bytes = 0;
    if (now->at_ns <= then->at_ns)
        return false;
    double seconds = (double)(now->at_ns - then->at_ns) / 1e9;
    *pushes = (double)growth(then->pushes, now->pushes) / seconds;
    *pulls = (double)growth(then->pulls, now->pulls) / seconds;
    *bytes = (double)growth(then->bytes, now->bytes) / seconds;
    return true;
}

/* ---- devices */

/* Without memory the numbers before stay. */
void numbers_take_devices(struct member *agent, const struct wire_beat *beat) {
    struct device_numbers *numbers = agent->device_numbers;
    if (beat->device_count != agent->device_number_count) {
        numbers = calloc(beat->device_count + 1, sizeof *numbers);
        if (!numbers)
            return;
        free(agent->device_numbers);
        agent->device_numbers = numbers;
        agent->device_number_count = beat->device_count;
    }
    for (size_t i = 0; i < beat->device_count; i++) {
        numbers[i].stats = beat->devices[i];
        numbers[i].stats.device = numbers[i].stats.name = NULL;
        core_copy(numbers[i].device, sizeof numbers[i].device, beat->devices[i].device);
        core_copy(numbers[i].name, sizeof numbers[i].name, beat->devices[i].name);
    }
}
