/* What workers on one host agree on among themselves: who has which name, and how many slots there are in all.
 *
 * Both are shown as abstract Unix socket addresses: nothing to clean up, the kernel takes them back when a process
 * ends, however it ends. They are per network namespace, so workers in containers of their own do not see each other.
 */
#ifndef LAGOON_WORKER_AGENT_HOST_H
#define LAGOON_WORKER_AGENT_HOST_H

#include <stdint.h>
#include <stdio.h>

#include "worker/worker_config.h"

/* The configured name; where it is empty HOST, HOST-2, ...: the first that no other worker here has taken this way, so
 * that names stay the same over restarts. *lock holds it (host_release); -1: nothing does. */
void host_take_name(const char *configured, char name[OPTION_TEXT_BYTES], int *lock);
/* Lets the other workers count this one's slots. */
void host_show_slots(int64_t slots, int *lock);
void host_release(int lock);

/* The slots that `sockets`, in the form of /proc/net/unix, shows. */
int64_t host_count_slots(FILE *sockets);
/* Cores this process may use. */
int64_t host_cores(void);
/* The devices to offer to jobs: "auto" becomes cuda:0, cuda:1, ... where there are `gpus`, and what follows it
 * ("/bf16") is added to each, and "cpu" where there are none; a list is taken apart. Returns their number. */
size_t host_devices(const char *configured, unsigned gpus, char list[HOST_DEVICES_MAX][HOST_DEVICE_BYTES]);
/* BLAS threads for a trainer of a job that names none: `threads`, else cores over the slots of all workers here, of
 * which this one has `slots`. */
int64_t host_threads(const struct worker_config *config, int64_t slots);

#endif
