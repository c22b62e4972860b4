/* A small job in a simulated network: shards, sessions that train on it, a coordinator that leases samples and evicts.
 *
 * Gradients are whole numbers that depend on the samples alone, the updater is plain SGD with rate one and codecs are
 * exact for such numbers, so the final parameters are known beforehand: the initial values minus what every sample
 * gives, each sample once. */
#ifndef LAGOON_TESTS_SUPPORT_SIM_WORLD_H
#define LAGOON_TESTS_SUPPORT_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "client/consistency.h"

/* Faults put in on purpose, to see that the simulation finds them. */
enum world_bug {
    WORLD_BUG_NONE,
    WORLD_BUG_NO_DEDUP,      /* shards take every part for a new one */
    WORLD_BUG_FALSE_ACK,     /* a shard acknowledges now and then what it did not apply */
    WORLD_BUG_CUTS_IGNORED,  /* a trainer takes a batch that straddles marks for done */
    WORLD_BUG_GREATEST_MARK, /* a slice taken over resumes where the shard that is farthest stands */
    WORLD_BUG_STALE_PULL,    /* a shard leaves out a unit that has changed */
    WORLD_BUG_HASTY_READ,    /* a shard lets everybody read at once (modes with rounds) */
    WORLD_BUG_COUNT
};

struct world_summary {
    char failure[256];         /* "": everything held */
    uint64_t commits, skipped; /* groups of pushes applied; pushes without a ticket */
    uint64_t messages, lost, repeated, connections_cut, pushes, pulls, evictions, taken_over, cuts, reopened;
    int64_t virtual_ns;
};

/* Runs one world from its seed; true when everything held. */
bool world_run(uint64_t seed, const struct consistency *mode, enum world_bug bug, struct world_summary *summary);

#endif
