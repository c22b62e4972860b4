#include "bench/limit.h"

const struct limit_reference limit_references[] = {
    {"limit.memcpy.64MiB", "memcpy, one thread (GB/s)", 9.5},
    {"limit.kernel.sgd", "sgd loop alone (G parameters/s)", 2.5},
    {"limit.kernel.momentum", "momentum loop alone (G parameters/s)", 1.4},
    {"limit.kernel.adam", "adam loop alone (G parameters/s)", 0.97},
    {"limit.tcp.64MiB", "raw TCP at its best message size (GB/s)", 5.0},
    {"limit.zmq.push.64MiB", "bare ZeroMQ loop, push (GB/s)", 3.2},
    {"limit.zmq.pushpull.64MiB", "bare ZeroMQ loop, push and pull (GB/s)", 2.0},
    {0},
};

void limit_close(struct limit *limit) {
    for (int i = 1; i >= 0; i--)
        process_stop(&limit->processes[i]);
}
