#include "cli/top_screen.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
enum { CAUGHT = sizeof caught / sizeof *caught };

/* Handlers, as libraries have threads of their own that would take blocked signals. They only pass the number on. */
static int signal_pipe[2];
static struct sigaction actions_before[CAUGHT];

static void on_signal(int number) {
    int error_before = errno;
    unsigned char byte = (unsigned char)number;
    (void)!write(signal_pipe[1], &byte, 1); /* a full pipe has news enough */
    errno = error_before;
}

static void catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    for (int i = 0; i < CAUGHT; i++)
        (void)sigaction(caught[i], &action, &actions_before[i]);
}

static void release_signals(void) {
    for (int i = 0; i < CAUGHT; i++)
        (void)sigaction(caught[i], &actions_before[i], NULL);
    close(signal_pipe[0]);
    close(signal_pipe[1]);
}

static void show(struct screen *screen) {
    struct termios raw = screen->before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (screen->keys >= 0)
        (void)tcsetattr(screen->keys, TCSADRAIN, &raw);
    fputs("\033[?1049h\033[?25l\033[2J", stdout); /* alternate screen, no cursor, empty */
    fflush(stdout);
    screen->shown = true;
}

static void hide(struct screen *screen) {
    if (!screen->shown)
        return;
    fputs("\033[0m\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (screen->keys >= 0)
        (void)tcsetattr(screen->keys, TCSADRAIN, &screen->before);
    screen->shown = false;
}

enum lg_status screen_open(struct screen *screen, struct lg_error *error) {
    *screen = (struct screen){.keys = -1};
    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return lg_fail(error, LG_IO, "cannot watch for signals: %s", strerror(errno));
    screen->signals = signal_pipe[0];
    catch_signals();
    if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &screen->before) == 0)
        screen->keys = STDIN_FILENO;
    show(screen);
    return LG_OK;
}

void screen_close(struct screen *screen) {
    hide(screen);
    release_signals();
}

void screen_size(int *width, int *height) {
    struct winsize size = {0};
    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    *width = size.ws_col ? size.ws_col : 80;
    *height = size.ws_row ? size.ws_row : 24;
}

/* ---- events */

/* Ctrl-Z: the shell's screen comes back, and this process stops like any other. */
static void stop(struct screen *screen) {
    hide(screen);
    (void)raise(SIGSTOP);
    show(screen);
}

static enum screen_event take_signal(struct screen *screen) {
    unsigned char number;
    if (read(screen->signals, &number, 1) != 1)
        return SCREEN_EVENT_NONE;
    switch (number) {
    case SIGWINCH:
    case SIGCONT:
        return SCREEN_EVENT_DRAW;
    case SIGTSTP:
        stop(screen);
        return SCREEN_EVENT_DRAW;
    default:
        screen->quit_signal = number;
        return SCREEN_EVENT_QUIT;
    }
}

static enum screen_event take_keys(struct screen *screen) {
    char keys[64];
    ssize_t count = read(screen->keys, keys, sizeof keys);
    if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN)) {
        screen->keys = -1; /* whoever typed is gone */
        screen->quit_signal = SIGHUP;
        return SCREEN_EVENT_QUIT;
    }
    for (ssize_t i = 0; i < count; i++)
        if (keys[i] == 'q' || keys[i] == 'Q' || keys[i] == 3)
            return SCREEN_EVENT_QUIT;
    return SCREEN_EVENT_NONE;
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

enum screen_event screen_wait(struct screen *screen, int64_t wait_ms) {
    int64_t end_ms = now_ms() + wait_ms;
    for (;;) {
        struct pollfd fds[] = {{.fd = screen->signals, .events = POLLIN}, {.fd = screen->keys, .events = POLLIN}};
        int64_t left_ms = end_ms - now_ms();
        enum screen_event event = SCREEN_EVENT_NONE;
        if (poll(fds, 2, left_ms > 0 ? (int)left_ms : 0) <= 0) {
            if (left_ms <= 0)
                return SCREEN_EVENT_NONE;
            continue;
        }
        if (fds[0].revents)
            event = take_signal(screen);
        if (event == SCREEN_EVENT_NONE && fds[1].revents)
            event = take_keys(screen);
        if (event != SCREEN_EVENT_NONE)
            return event;
    }
}
