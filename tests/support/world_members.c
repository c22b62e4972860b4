/* Fake servers with their shards, and fake agents. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/world_internal.h"

void world_add_server(struct world *world, int index, const char *name, size_t shards, uint64_t memory_bytes) {
    struct world_server *server = &world->servers[index];
    *server = (struct world_server){.there = true,
                                    .instance = random_u64(&world->secrets),
                                    .route = ROUTE_SERVER + (uint64_t)index,
                                    .memory_bytes = memory_bytes,
                                    .shard_count = shards};
    snprintf(server->name, sizeof server->name, "%s", name);
    for (size_t i = 0; i < shards; i++)
        server->shards[i].number = UINT32_MAX;
}

void world_add_agent(struct world *world, int index, const char *name, uint32_t slots) {
    struct world_agent *agent = &world->agents[index];
    *agent = (struct world_agent){.there = true,
                                  .instance = random_u64(&world->secrets),
                                  .route = ROUTE_AGENT + (uint64_t)index,
                                  .slots = slots,
                                  .devices = {"cpu"},
                                  .device_count = 1};
    snprintf(agent->name, sizeof agent->name, "%s", name);
}

void world_populate(struct world *world) {
    world_add_server(world, 0, "server-0", 2, 1 << 30);
    world_add_server(world, 1, "server-1", 2, 1 << 30);
    world_add_agent(world, 0, "worker-0", 1);
    world_add_agent(world, 1, "worker-1", 1);
    world_add_agent(world, 2, "worker-2", 1);
    world_advance(world, 200);
}

void world_restart_server(struct world *world, int index) {
    struct world_server *server = &world->servers[index];
    char name[32];
    memcpy(name, server->name, sizeof name);
    world_add_server(world, index, name, server->shard_count, server->memory_bytes);
}

void world_kill_agent(struct world *world, int index) {
    world->agents[index].there = false;
    for (size_t i = 0; i < WORLD_TRAINERS; i++)
        if (world->trainers[i].there && world->trainers[i].agent == index)
            world->trainers[i].there = false; /* trainers die with their agent */
    for (size_t i = 0; i < WORLD_TRAINERS; i++)
        if (world->exits[i].agent == index)
            world->exits[i].used = false;
}

/* ---- beating */

static void register_server(struct world *world, struct world_server *server, int index) {
    char texts[WORLD_SHARDS_EACH][32];
    const char *endpoints[WORLD_SHARDS_EACH];
    for (size_t i = 0; i < server->shard_count; i++) {
        snprintf(texts[i], sizeof texts[i], "tcp://10.0.0.%d:%zu", index, 1000 + i);
        endpoints[i] = texts[i];
    }
    struct wire_message message = {.kind = WIRE_REGISTER, .request = 1};
    message.register_ = (struct wire_register){.kind = WIRE_MEMBER_SERVER,
                                               .name = server->name,
                                               .instance = server->instance,
                                               .endpoints = endpoints,
                                               .endpoint_count = server->shard_count,
                                               .memory_bytes = server->memory_bytes,
                                               .member = server->member};
    world_send(world, server->route, &message);
}

static uint64_t samples_on(const struct world_job *job) {
    uint64_t samples = 0;
    for (size_t epoch = 0; epoch < WORLD_EPOCHS; epoch++)
        for (size_t i = 0; i < WORLD_SAMPLES; i++)
            samples += job->applied[epoch][i];
    return samples;
}

static void beat_server(struct world *world, struct world_server *server) {
    struct wire_shard_job_stats stats[WORLD_SHARDS_EACH * WORLD_JOBS];
    struct wire_message message = {.kind = WIRE_BEAT, .request = 1};
    size_t count = 0;
    for (size_t s = 0; s < server->shard_count; s++)
        for (size_t j = 0; j < WORLD_JOBS; j++)
            if (server->shards[s].jobs[j].open)
                stats[count++] = (struct wire_shard_job_stats){.job = server->shards[s].jobs[j].id,
                                                               .shard = server->shards[s].number,
                                                               .samples = samples_on(&server->shards[s].jobs[j]),
                                                               .pushes = 10,
                                                               .staleness_mean = 1.5,
                                                               .staleness_p99 = 3,
                                                               .staleness_max = 4,
                                                               .weight_mean = 0.75};
    message.beat =
        (struct wire_beat){.member = server->member, .instance = server->instance, .stats = stats, .stat_count = count};
    world_send(world, server->route, &message);
}

static void register_agent(struct world *world, struct world_agent *agent) {
    struct wire_message message = {.kind = WIRE_REGISTER, .request = 1};
    message.register_ = (struct wire_register){.kind = WIRE_MEMBER_AGENT,
                                               .name = agent->name,
                                               .instance = agent->instance,
                                               .slots = agent->slots,
                                               .devices = agent->devices,
                                               .device_count = agent->device_count,
                                               .member = agent->member,
                                               .cores = 2};
    world_send(world, agent->route, &message);
}

static void beat_agent(struct world *world, const struct world_agent *agent, int index) {
    uint64_t trainers[WORLD_TRAINERS];
    struct wire_message message = {.kind = WIRE_BEAT, .request = 1};
    message.beat = (struct wire_beat){.member = agent->member, .instance = agent->instance, .trainers = trainers};
    for (size_t i = 0; i < WORLD_TRAINERS; i++)
        if (world->trainers[i].there && world->trainers[i].agent == index)
            trainers[message.beat.trainer_count++] = world->trainers[i].number;
    world_send(world, agent->route, &message);
}

static void send_exits(struct world *world) {
    for (size_t i = 0; i < WORLD_TRAINERS; i++) {
        struct world_exit *exit = &world->exits[i];
        if (!exit->used || !world->agents[exit->agent].registered || world->now_ms - exit->sent_ms < 1000)
            continue;
        struct wire_message message = {.kind = WIRE_TRAINER_EXIT, .request = exit->request};
        message.trainer_exit = (struct wire_trainer_exit){exit->trainer, exit->code, exit->signal, exit->reason};
        exit->sent_ms = world->now_ms;
        world_send(world, world->agents[exit->agent].route, &message);
    }
}

void world_members_tick(struct world *world) {
    for (int i = 0; i < WORLD_SERVERS; i++) {
        struct world_server *server = &world->servers[i];
        if (!server->there || server->stopped || world->now_ms - server->beat_ms < (server->registered ? 1000 : 250))
            continue;
        server->beat_ms = world->now_ms;
        if (server->registered)
            beat_server(world, server);
        else
            register_server(world, server, i);
    }
    for (int i = 0; i < WORLD_AGENTS; i++) {
        struct world_agent *agent = &world->agents[i];
        if (!agent->there || world->now_ms - agent->beat_ms < (agent->registered ? 1000 : 250))
            continue;
        agent->beat_ms = world->now_ms;
        if (agent->registered)
            beat_agent(world, agent, i);
        else
            register_agent(world, agent);
    }
    send_exits(world);
}

/* ---- shards */

static struct world_shard *shard_of(struct world *world, uint32_t number, struct world_server **server) {
    for (int i = 0; i < WORLD_SERVERS; i++)
        for (size_t s = 0; world->servers[i].there && s < world->servers[i].shard_count; s++)
            if (world->servers[i].shards[s].number == number) {
                *server = &world->servers[i];
                return &world->servers[i].shards[s];
            }
    return NULL;
}

static struct world_job *job_on(struct world_shard *shard, uint64_t id) {
    for (size_t i = 0; i < WORLD_JOBS; i++)
        if (shard->jobs[i].open && shard->jobs[i].id == id)
            return &shard->jobs[i];
    return NULL;
}

struct world_job *world_job_on(struct world *world, uint32_t number, uint64_t id) {
    struct world_server *server;
    struct world_shard *shard = shard_of(world, number, &server);
    return shard ? job_on(shard, id) : NULL;
}

static bool is_among(const uint64_t *numbers, size_t count, uint64_t number) {
    for (size_t i = 0; i < count; i++)
        if (numbers[i] == number)
            return true;
    return false;
}

enum lg_status world_apply(struct world *world, uint32_t number, uint64_t id, uint64_t session, uint64_t epoch,
                           uint64_t first, uint64_t end) {
    struct world_server *server = NULL;
    struct world_shard *shard = shard_of(world, number, &server);
    if (!shard || server->stopped)
        return LG_UNAVAILABLE;
    struct world_job *job = job_on(shard, id);
    if (!job || !is_among(job->sessions, job->session_count, session))
        return LG_FENCED;
    size_t applied = 0;
    for (uint64_t i = first; i < end; i++)
        applied += job->applied[epoch][i];
    world->torn += applied != 0 && applied != end - first;
    world->repeats += applied == end - first;
    memset(&job->applied[epoch][first], 1, end - first);
    return LG_OK;
}

static void open_job(struct world_shard *shard, const struct wire_job_open *open) {
    struct world_job *job = job_on(shard, open->job);
    for (size_t i = 0; !job && i < WORLD_JOBS; i++)
        if (!shard->jobs[i].open) {
            job = &shard->jobs[i];
            *job = (struct world_job){.id = open->job, .open = true};
        }
    ck_assert_ptr_nonnull(job);
    ck_assert_uint_le(open->train_samples, WORLD_SAMPLES);
    job->epoch = open->epoch;
    job->map_version = open->map_version;
    job->train_samples = open->train_samples;
}

static void close_session(struct world_job *job, uint64_t session) {
    size_t kept = 0;
    for (size_t i = 0; i < job->session_count; i++)
        if (job->sessions[i] != session)
            job->sessions[kept++] = job->sessions[i];
    job->session_count = kept;
    if (!is_among(job->closed, job->closed_count, session)) {
        ck_assert_uint_lt(job->closed_count, WORLD_SESSIONS);
        job->closed[job->closed_count++] = session;
    }
}

static enum lg_status open_session(const struct world *world, struct world_job *job, uint64_t session) {
    if (!job)
        return LG_NOT_FOUND;
    if (is_among(job->closed, job->closed_count, session))
        return LG_FENCED;
    if (is_among(job->sessions, job->session_count, session))
        return LG_OK;
    if (world->shard_sessions != 0 && job->session_count >= world->shard_sessions)
        return LG_UNAVAILABLE;
    ck_assert_uint_lt(job->session_count, WORLD_SESSIONS);
    job->sessions[job->session_count++] = session;
    return LG_OK;
}

/* As a shard's ledger says it: the least position not applied, and every edge of coverage in [first, end]. */
static void read_marks(const struct world_job *job, const struct wire_marks_query *query,
                       struct wire_marks_reply *reply, uint64_t *marks) {
    const uint8_t *applied = job->applied[query->epoch];
    reply->resume = query->end;
    for (uint64_t i = query->end; i-- > query->first;)
        if (!applied[i])
            reply->resume = i;
    for (uint64_t i = query->first; i <= query->end; i++) {
        uint8_t before = i > 0 ? applied[i - 1] : 0, here = i < job->train_samples ? applied[i] : 0;
        if (before != here)
            marks[reply->mark_count++] = i;
    }
    reply->marks = marks;
}

static void read_ledger(const struct world_job *job, struct wire_ledger_reply *reply, struct wire_ledger_row *rows) {
    for (uint64_t epoch = 0; epoch < WORLD_EPOCHS; epoch++) {
        uint64_t samples = 0;
        for (uint64_t i = 0; i < job->train_samples; i++)
            samples += job->applied[epoch][i];
        if (samples > 0)
            rows[reply->row_count++] =
                (struct wire_ledger_row){.epoch = epoch, .samples_least = samples, .samples_most = samples};
    }
    reply->rows = rows;
}

static void obey(struct world *world, struct world_server *server, const struct wire_message *message) {
    struct world_server *host = NULL;
    struct world_shard *shard = shard_of(world, wire_command_shard(message), &host);
    struct wire_message reply = {.kind = WIRE_ACK, .request = message->request};
    struct wire_ledger_row rows[WORLD_EPOCHS];
    uint64_t marks[WORLD_SAMPLES + 2];
    struct world_job *job;
    if (!shard || host != server) {
        reply.ack.status = LG_NOT_FOUND;
        world_send(world, server->route, &reply);
        return;
    }
    switch (message->kind) {
    case WIRE_JOB_OPEN:
        open_job(shard, &message->job_open);
        break;
    case WIRE_JOB_CLOSE:
        job = job_on(shard, message->job_close.job);
        if (job)
            job->open = false;
        break;
    case WIRE_SESSION_OPEN:
        reply.ack.status = open_session(world, job_on(shard, message->session_open.job), message->session_open.session);
        reply.ack.reason = reply.ack.status == LG_UNAVAILABLE ? "raise \"shards.sessions\"" : "";
        break;
    case WIRE_SESSION_CLOSE:
        job = job_on(shard, message->session_close.job);
        if (job)
            close_session(job, message->session_close.session);
        break;
    case WIRE_MARKS_QUERY:
        reply.kind = WIRE_MARKS_REPLY;
        job = job_on(shard, message->marks_query.job);
        if (job)
            read_marks(job, &message->marks_query, &reply.marks_reply, marks);
        else
            reply.marks_reply.status = LG_NOT_FOUND;
        break;
    default:
        reply.kind = WIRE_LEDGER_REPLY;
        job = job_on(shard, message->ledger_query.job);
        if (job)
            read_ledger(job, &reply.ledger_reply, rows);
        else
            reply.ledger_reply.status = LG_NOT_FOUND;
    }
    world_send(world, server->route, &reply);
}

bool world_server_receive(struct world *world, uint64_t route, const struct wire_message *message) {
    if (route < ROUTE_SERVER || route >= ROUTE_SERVER + WORLD_SERVERS)
        return false;
    struct world_server *server = &world->servers[route - ROUTE_SERVER];
    if (!server->there || server->stopped)
        return true;
    switch (message->kind) {
    case WIRE_REGISTER_REPLY:
        ck_assert_msg(message->register_reply.status == LG_OK, "%s", message->register_reply.reason);
        server->registered = true;
        server->member = message->register_reply.member;
        for (size_t i = 0; i < server->shard_count; i++) {
            uint32_t number = message->register_reply.shards[i];
            ck_assert(server->shards[i].number == UINT32_MAX || server->shards[i].number == number);
            server->shards[i].number = number;
        }
        break;
    case WIRE_BEAT_REPLY:
        if (message->beat_reply.register_again)
            register_server(world, server, (int)(route - ROUTE_SERVER));
        break;
    default:
        obey(world, server, message);
    }
    return true;
}

/* ---- agents */

static struct world_trainer *trainer_of(struct world *world, uint64_t number) {
    for (size_t i = 0; i < WORLD_TRAINERS; i++)
        if (world->trainers[i].there && world->trainers[i].number == number)
            return &world->trainers[i];
    return NULL;
}

static bool has_exited(const struct world *world, uint64_t trainer) {
    for (size_t i = 0; i < WORLD_TRAINERS; i++)
        if (world->exits[i].used && world->exits[i].trainer == trainer)
            return true;
    return false;
}

static void spawn(struct world *world, int index, const struct wire_trainer_start *start) {
    if (trainer_of(world, start->trainer) || has_exited(world, start->trainer))
        return;
    struct world_trainer *trainer = world_trainer_new(world);
    trainer->agent = index;
    trainer->number = start->trainer;
    trainer->token = start->token;
    trainer->job = start->job;
    snprintf(trainer->device, sizeof trainer->device, "%s", start->device);
    if (world->fast_exit)
        world_kill_trainer(world, trainer, world->fast_exit, 0, "it cannot be");
}

static void ack(struct world *world, uint64_t route, uint64_t request) {
    struct wire_message message = {.kind = WIRE_ACK, .request = request};
    world_send(world, route, &message);
}

bool world_agent_receive(struct world *world, uint64_t route, const struct wire_message *message) {
    if (route < ROUTE_AGENT || route >= ROUTE_AGENT + WORLD_AGENTS)
        return false;
    int index = (int)(route - ROUTE_AGENT);
    struct world_agent *agent = &world->agents[index];
    struct world_trainer *trainer;
    if (!agent->there)
        return true;
    switch (message->kind) {
    case WIRE_REGISTER_REPLY:
        agent->registered = message->register_reply.status == LG_OK;
        agent->refused = !agent->registered;
        agent->member = message->register_reply.member;
        break;
    case WIRE_BEAT_REPLY:
        if (message->beat_reply.register_again)
            register_agent(world, agent);
        break;
    case WIRE_TRAINER_START:
        ack(world, route, message->request);
        spawn(world, index, &message->trainer_start);
        break;
    case WIRE_TRAINER_STOP:
        ack(world, route, message->request);
        trainer = trainer_of(world, message->trainer_stop.trainer);
        if (trainer)
            world_kill_trainer(world, trainer, 0, 0, "stopped");
        break;
    case WIRE_ACK:
        for (size_t i = 0; i < WORLD_TRAINERS; i++)
            if (world->exits[i].used && world->exits[i].request == message->request)
                world->exits[i].used = false;
        break;
    default:
        ck_abort_msg("an agent got %s", wire_kind_name(message->kind));
    }
    return true;
}

/* ---- looking */

void world_expect_exact(struct world *world, uint64_t id, uint64_t epochs) {
    size_t shards = 0;
    ck_assert_uint_eq(world->torn, 0);
    for (int s = 0; s < WORLD_SERVERS; s++)
        for (size_t i = 0; world->servers[s].there && i < world->servers[s].shard_count; i++) {
            struct world_job *job = job_on(&world->servers[s].shards[i], id);
            for (uint64_t epoch = 0; job && epoch < WORLD_EPOCHS; epoch++)
                for (uint64_t sample = 0; sample < WORLD_SAMPLES; sample++)
                    ck_assert_msg(job->applied[epoch][sample] == (epoch < epochs && sample < job->train_samples),
                                  "shard %u, epoch %llu, sample %llu: applied %d times",
                                  world->servers[s].shards[i].number, (unsigned long long)epoch,
                                  (unsigned long long)sample, job->applied[epoch][sample]);
            shards += job != NULL;
        }
    ck_assert_uint_ge(shards, 1);
}

bool world_holds(const struct world *world, uint64_t id) {
    for (int s = 0; s < WORLD_SERVERS; s++)
        for (size_t i = 0; world->servers[s].there && i < world->servers[s].shard_count; i++)
            for (size_t j = 0; j < WORLD_JOBS; j++)
                if (world->servers[s].shards[i].jobs[j].open && world->servers[s].shards[i].jobs[j].id == id)
                    return true;
    return false;
}

size_t world_sessions(const struct world *world, uint64_t id) {
    size_t count = 0;
    for (int s = 0; s < WORLD_SERVERS; s++)
        for (size_t i = 0; world->servers[s].there && i < world->servers[s].shard_count; i++)
            for (size_t j = 0; j < WORLD_JOBS; j++)
                if (world->servers[s].shards[i].jobs[j].open && world->servers[s].shards[i].jobs[j].id == id)
                    count += world->servers[s].shards[i].jobs[j].session_count;
    return count;
}
