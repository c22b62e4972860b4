/* A trainer's first moments: tied to its agent, told what to do. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "worker/trainer.h"

/* All of standard input, until its end. */
static enum lg_status read_input(struct buf *text, struct lg_error *error) {
    char chunk[16384];
    if (isatty(STDIN_FILENO))
        return lg_fail(error, LG_INVALID, "a trainer is started by lagoon-worker and not by hand");
    for (;;) {
        ssize_t count = read(STDIN_FILENO, chunk, sizeof chunk);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return lg_fail(error, LG_IO, "cannot read the agent's handover: %s", strerror(errno));
        if (count == 0)
            return buf_check(text, error);
        buf_append(text, chunk, (size_t)count);
        if (text->size > TRAINER_HANDOVER_BYTES_MAX)
            return lg_fail(error, LG_MALFORMED, "the agent's handover does not end");
    }
}

enum lg_status trainer_begin(struct trainer_handover *out, struct lg_error *error) {
    struct buf text = {0};
    *out = (struct trainer_handover){0};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return lg_fail(error, LG_IO, "cannot tie this trainer's life to its agent's: %s", strerror(errno));
    enum lg_status status = read_input(&text, error);
    if (status == LG_OK)
        status = trainer_handover_read(buf_string(&text), text.size, out, error);
    if (text.data)
        explicit_bzero(text.data, text.size);
    buf_deinit(&text);
    if (status == LG_OK && getppid() != (pid_t)out->agent_pid) /* it died before prctl */
        status = lg_fail(error, LG_UNAVAILABLE, "the agent that started this trainer is gone");
    return status;
}
