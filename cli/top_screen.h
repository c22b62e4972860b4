/* A terminal of its own for a view that is drawn again and again: the alternate screen, keys without a newline, signals
 * as events. Everything is as it was after screen_close, also when a signal has ended the view. */
#ifndef LAGOON_CLI_TOP_SCREEN_H
#define LAGOON_CLI_TOP_SCREEN_H

#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

#include "common/status.h"

enum screen_event {
    SCREEN_EVENT_NONE, /* the time is over */
    SCREEN_EVENT_DRAW, /* the window has another size, or the view is back in the foreground */
    SCREEN_EVENT_QUIT, /* q, Ctrl-C, SIGTERM, or the terminal is gone */
};

struct screen {
    bool shown;
    struct termios before; /* of the keyboard */
    int signals;           /* descriptor of the signals that come as events */
    int keys;              /* of the keyboard; -1: standard input is no terminal, or at its end */
    int quit_signal;       /* that has ended the view; 0: a key has */
};

/* Signals come as events from now on. Shows the alternate screen on standard output. One at a time. */
LG_MUST_CHECK enum lg_status screen_open(struct screen *screen, struct lg_error *error);
void screen_close(struct screen *screen);
/* Width and height in characters; 80 x 24 where the terminal does not say. */
void screen_size(int *width, int *height);
/* Waits for an event, `wait_ms` at most. */
enum screen_event screen_wait(struct screen *screen, int64_t wait_ms);

#endif
