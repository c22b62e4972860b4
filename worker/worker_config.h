/* The worker daemon's options: one table behind its config file, flags, help and docs. */
#ifndef LAGOON_WORKER_WORKER_CONFIG_H
#define LAGOON_WORKER_WORKER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/log.h"
#include "common/net.h"
#include "common/option.h"

enum { HOST_DEVICES_MAX = 64, HOST_DEVICE_BYTES = 64 }; /* that a worker may list; of one's text */

struct worker_config {
    char name[OPTION_TEXT_BYTES];        /* "": the host's name, numbered where it is taken */
    char coordinator[OPTION_TEXT_BYTES]; /* as given; `endpoint` is what it says */
    int64_t slots;                       /* 0: one on each device */
    char device[OPTION_TEXT_BYTES];
    int64_t threads; /* BLAS threads of each trainer; 0: cores / slots */
    double slowdown; /* >= 1 */
    char data_root[OPTION_TEXT_BYTES];
    char state_dir[OPTION_TEXT_BYTES]; /* absolute once it was checked; "": none */
    int64_t grace_ms;
    char security[OPTION_TEXT_BYTES];
    char http_bind[OPTION_TEXT_BYTES], http_token[OPTION_TEXT_BYTES], http_hosts[OPTION_TEXT_BYTES];
    int64_t http_port;
    char log_level[OPTION_TEXT_BYTES];
    char ready_file[OPTION_TEXT_BYTES];

    /* Worked out from the above by worker_config_check: */
    char endpoint[NET_ENDPOINT_BYTES]; /* of the coordinator */
    enum log_level level;
};

extern const struct option_table worker_table;

/* Checks what one option alone does not show (`worker` is filled already) and works out the fields at the end. Errors
 * name the place in `config` and the remedy. Sees to it that data_root and trainer.state_dir are folders; touches no
 * other file. */
LG_MUST_CHECK enum lg_status worker_config_check(const struct config *config, void *worker, struct lg_error *error);

#endif
