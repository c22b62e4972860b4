/* lagoon-worker: the agent, or with --trainer (as the agent starts it) a trainer. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/daemon.h"
#include "common/log.h"
#include "worker/agent.h"
#include "worker/trainer.h"
#include "worker/worker_config.h"

int main(int argc, char **argv) {
    static const struct daemon_program program = {
        .name = "lagoon-worker",
        .summary = "runs trainers on this machine for the coordinator's jobs",
        .table = &worker_table,
        .check = worker_config_check,
    };
    static struct worker_config config;
    struct lg_error error = {0};
    int exit_code;
    daemon_keep_memory();
    if (argc >= 2 && strcmp(argv[1], "--trainer") == 0)
        return trainer_main();
    if (!daemon_configure(&program, argc, argv, &config, &exit_code))
        return exit_code;
    log_init("worker", config.level);
    signal(SIGPIPE, SIG_IGN); /* a trainer may die before it has read what it was handed */
    if (agent_run(&config, "/proc/self/exe", &error) == LG_OK)
        return EXIT_CODE_OK;
    fprintf(stderr, "lagoon-worker: %s\n", error.message);
    return EXIT_CODE_FAILED;
}
