/* Workers that take turns, so that no push is stale: the control `sim.sequential`. */
#include "sim/virtual_worker.h"

static bool alone(const struct virtual_worker *worker) {
    return worker->simulation->options.sequential;
}

bool turn_take(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    if (!alone(worker) || worker->turn)
        return true;
    if (worker->queued)
        return false;
    if (!simulation->turn_taken) {
        simulation->turn_taken = worker->turn = true;
        return true;
    }
    worker->queued = true;
    worker->after = NULL;
    if (simulation->turn_last)
        simulation->turn_last->after = worker;
    else
        simulation->turn_first = worker;
    simulation->turn_last = worker;
    return false;
}

void turn_pass(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    if (!worker->turn)
        return;
    worker->turn = simulation->turn_taken = false;
    struct virtual_worker *next = simulation->turn_first;
    if (!next)
        return;
    simulation->turn_first = next->after;
    if (!next->after)
        simulation->turn_last = NULL;
    next->queued = false;
    next->turn = simulation->turn_taken = true;
    worker_later(next, 0, EVENT_DRIVE);
}

void turn_leave(struct virtual_worker *worker) {
    struct simulation *simulation = worker->simulation;
    struct virtual_worker *before = NULL;
    turn_pass(worker);
    for (struct virtual_worker *w = simulation->turn_first; worker->queued && w; before = w, w = w->after) {
        if (w != worker)
            continue;
        if (before)
            before->after = w->after;
        else
            simulation->turn_first = w->after;
        if (simulation->turn_last == w)
            simulation->turn_last = before;
        worker->queued = false;
    }
}
