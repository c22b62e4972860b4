/* Between world.c, world_members.c and world_trainers.c. */
#ifndef LAGOON_TESTS_SUPPORT_WORLD_INTERNAL_H
#define LAGOON_TESTS_SUPPORT_WORLD_INTERNAL_H

#include "tests/support/world.h"

/* Straight into the core, unless it gets lost; maybe twice. */
void world_send(struct world *world, uint64_t route, const struct wire_message *message);

/* True when the route is one of theirs. */
bool world_server_receive(struct world *world, uint64_t route, const struct wire_message *message);
bool world_agent_receive(struct world *world, uint64_t route, const struct wire_message *message);
bool world_trainer_receive(struct world *world, uint64_t route, const struct wire_message *message);

void world_members_tick(struct world *world);
void world_trainers_tick(struct world *world);

/* ---- shards */
struct world_job *world_job_on(struct world *world, uint32_t shard, uint64_t job);
/* Applies a batch of a session on one shard; LG_UNAVAILABLE while its server is stopped. */
enum lg_status world_apply(struct world *world, uint32_t shard, uint64_t job, uint64_t session, uint64_t epoch,
                           uint64_t first, uint64_t end);
struct world_trainer *world_trainer_new(struct world *world);

#endif
