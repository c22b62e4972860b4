/* The options of lagoon-server, for both of its roles. */
#ifndef LAGOON_SERVER_SERVER_CONFIG_H
#define LAGOON_SERVER_SERVER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/option.h"

struct server_config {
    char role[OPTION_TEXT_BYTES]; /* server | coordinator */
    char name[OPTION_TEXT_BYTES];
    char bind[OPTION_TEXT_BYTES], advertise[OPTION_TEXT_BYTES];
    char coordinator[OPTION_TEXT_BYTES];
    char security[OPTION_TEXT_BYTES]; /* "" | none */
    char isa[OPTION_TEXT_BYTES];
    char log_level[OPTION_TEXT_BYTES];
    char ready_file[OPTION_TEXT_BYTES];
    int64_t shards;
    uint64_t memory_bytes, credit_bytes, session_credit_bytes;
    int64_t window, sessions_max;
    bool local, reject_nonfinite;
    char http_bind[OPTION_TEXT_BYTES], http_token[OPTION_TEXT_BYTES], http_hosts[OPTION_TEXT_BYTES];
    int64_t http_port;
    char record[OPTION_TEXT_BYTES]; /* "" : nothing is recorded */
    char data_dir[OPTION_TEXT_BYTES];
    int64_t beat_ms, dead_after_ms, server_grace_ms;
};

extern const struct option_table server_table;

#endif
