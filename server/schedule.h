/* The learning rate as a function of a job's applied samples. Its result is a recorded decision. */
#ifndef LAGOON_SERVER_SCHEDULE_H
#define LAGOON_SERVER_SCHEDULE_H

#include "client/job.h"

/* `samples`: applied to the job so far, those of the push that asks included, so that a warm-up does not waste its
 * first push on a rate of zero. `train_samples`: of one epoch, for schedules that end with the job. */
float schedule_rate(const struct job_config *job, uint64_t train_samples, uint64_t samples);

#endif
