/* lagoon-server: hosts shards, or is the coordinator. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/daemon.h"
#include "common/log.h"
#include "server/coordinator/coordinator_process.h"
#include "server/server_config.h"
#include "server/server_process.h"

/* Context: the configuration. */
static enum lg_status announce_coordinator(void *context, const char *endpoint, const char *http,
                                           struct lg_error *error) {
    const struct server_config *config = context;
    struct buf text = {0};
    buf_printf(&text, "{\"role\": \"coordinator\", \"pid\": %d, \"endpoint\": \"%s\", \"http\": \"%s\"}", (int)getpid(),
               endpoint, http);
    enum lg_status status = daemon_write_ready(config->ready_file, buf_string(&text), error);
    buf_deinit(&text);
    return status;
}

static enum lg_status run_coordinator(struct server_config *config, struct lg_error *error) {
    const struct coordinator_options options = {
        .bind = config->bind,
        .advertise = config->advertise,
        .exposed = strcmp(config->security, "none") == 0,
        .data_dir = config->data_dir,
        .http_bind = config->http_bind,
        .http_port = (uint16_t)config->http_port,
        .http_token = config->http_token,
        .http_hosts = config->http_hosts,
        .beat_ms = config->beat_ms,
        .dead_after_ms = config->dead_after_ms,
        .server_grace_ms = config->server_grace_ms,
        .ready = announce_coordinator,
        .context = config,
    };
    return coordinator_process_run(&options, error);
}

int main(int argc, char **argv) {
    const struct daemon_program program = {.name = "lagoon-server",
                                           .summary = "hosts shards of parameters, or is the coordinator",
                                           .table = &server_table};
    struct server_config config;
    struct lg_error error = {0};
    enum log_level level = LOG_LEVEL_INFO;
    int exit_code;
    if (!daemon_configure(&program, argc, argv, &config, &exit_code))
        return exit_code;
    bool coordinator = strcmp(config.role, "coordinator") == 0;
    if (log_level_parse(config.log_level, &level) != LG_OK)
        level = LOG_LEVEL_INFO;
    log_init(config.role[0] == 'c' ? "coord" : "server", level);
    signal(SIGPIPE, SIG_IGN);
    daemon_keep_memory();
    enum lg_status status = coordinator ? run_coordinator(&config, &error) : server_process_run(&config, &error);
    if (status != LG_OK) {
        log_error("failed", "%s", error.message);
        return EXIT_CODE_FAILED;
    }
    return EXIT_CODE_OK;
}
