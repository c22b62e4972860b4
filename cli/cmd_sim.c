/* lagoon sim: experiments on a simulated cluster. */
#include <signal.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/job_file.h"
#include "common/log.h"
#include "sim/simulation.h"

static int run(struct cli *cli, const void *own, int argc, char **argv) {
    struct config *config = NULL;
    struct lg_error error = {0};
    struct sim_outcome outcome;
    (void)cli, (void)own, (void)argc;
    log_init("sim", LOG_LEVEL_ERROR);
    if (config_read_file(argv[0], &config, &error) != LG_OK)
        return cli_fail(&error);
    struct sim_setup setup = {.config = config, .seed = 1};
    if (simulate(&setup, &outcome, &error) != LG_OK)
        return cli_fail(&error);
    for (size_t i = 0; i < outcome.curve_count; i++)
        printf("%8llu %8llu %10.3f %8.4f %6.2f\n", (unsigned long long)outcome.curve[i].samples,
               (unsigned long long)outcome.curve[i].updates, outcome.curve[i].time_s, outcome.curve[i].loss,
               100 * outcome.curve[i].accuracy);
    printf(
        "%s; %llu updates, %.3f simulated s, %.2f s, %llu events; staleness mean %.2f p50 %llu max %llu, weight %.4f\n",
        outcome.end, (unsigned long long)outcome.updates, outcome.time_s, outcome.wall_s,
        (unsigned long long)outcome.events, spread_staleness_mean(&outcome.spread),
        (unsigned long long)spread_quantile(&outcome.spread, .5), (unsigned long long)outcome.spread.staleness_max,
        spread_weight_mean(&outcome.spread));
    sim_outcome_deinit(&outcome);
    config_free(config);
    return 0;
}

const struct cli_command cmd_sim = {
    .name = "sim",
    .summary = "try jobs on a simulated cluster: policies, modes, learning rates",
    .arguments = "FILE",
    .least = 1,
    .most = 1,
    .run = run,
};
