#include "server/schedule.h"

#include <math.h>
#include <string.h>

static const double pi = 3.14159265358979323846;

static double schedule_total(const struct job_config *job, uint64_t train_samples) {
    if (job->total_samples > 0)
        return (double)job->total_samples;
    return (double)job->epochs * (double)train_samples;
}

/* From 1 at the end of the warm-up to final_factor at the end of the job, and final_factor from there on. */
static double cosine_factor(const struct job_config *job, double total, double samples) {
    double start = (double)job->warmup_samples, length = total - start;
    double progress = length > 0 ? (samples - start) / length : 1;
    progress = progress < 0 ? 0 : progress > 1 ? 1 : progress;
    return job->final_factor + (1 - job->final_factor) * (1 + cos(pi * progress)) / 2;
}

/* sqrt(r/samples) beyond r: the warm-up or, without one, the first hundredth of the job. */
static double inverse_sqrt_factor(const struct job_config *job, double total, double samples) {
    double reference = job->warmup_samples > 0 ? (double)job->warmup_samples : total / 100;
    reference = reference < 1 ? 1 : reference;
    return samples <= reference ? 1 : sqrt(reference / samples);
}

float schedule_rate(const struct job_config *job, uint64_t train_samples, uint64_t samples) {
    double factor = 1, seen = (double)samples, total = schedule_total(job, train_samples);
    if (samples < (uint64_t)job->warmup_samples)
        factor = seen / (double)job->warmup_samples;
    else if (strcmp(job->schedule, "cosine") == 0)
        factor = cosine_factor(job, total, seen);
    else if (strcmp(job->schedule, "step") == 0 && job->step_samples > 0)
        factor = pow(job->step_factor, (double)(samples / (uint64_t)job->step_samples));
    else if (strcmp(job->schedule, "inverse-sqrt") == 0)
        factor = inverse_sqrt_factor(job, total, seen);
    return (float)(job->learning_rate * factor);
}
