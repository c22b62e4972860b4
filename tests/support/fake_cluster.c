#include "tests/support/fake_cluster.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/wire_net.h"
#include "server/local_door.h"
#include "server/shard_state.h"

enum { EPOCH = 1, MAP = 5, RETRY_MS = 20, POLL_MS = 5, SPEC_MAX = 16 };

struct fake_session {
    uint64_t id, token;
    uint64_t lease_request; /* the last one answered, and how: a repeated request gets the same answer */
    struct wire_lease_grant grant;
};

struct fake_socket {
    void *socket; /* NULL: closed */
    char endpoint[NET_ENDPOINT_BYTES];
};

struct fake_cluster {
    void *zmq;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool stopping;
    unsigned asked, obeyed; /* tickets of what other threads want done with sockets */
    bool cut[FAKE_SHARDS + 1], wanted[FAKE_SHARDS + 1];
    struct fake_socket coordinator, data[FAKE_SHARDS];
    struct shard *shards[FAKE_SHARDS];
    struct local_door *doors[FAKE_SHARDS]; /* NULL: shares no memory */
    struct wire_bytes payload[WIRE_PAYLOAD_FRAMES_MAX];
    struct wire_pair spec[SPEC_MAX];
    size_t spec_count;
    char ipc_dir[32]; /* "": none */
    struct fake_knobs knobs;
    struct fake_session sessions[FAKE_SESSIONS_MAX];
    unsigned session_count;
    bool initialising, initialised;
    uint64_t next_sample, next_lease;
    unsigned leases_out;
    unsigned replying; /* shard whose answer is under way */
    unsigned unheard;  /* answers nobody was there for */
    struct net_message in, out;
    struct wire_arena *arena;
};

static const struct tensor_spec tensors[] = {
    {.name = "matrix", .rank = 2, .shape = {2, 65536}, .lr_factor = 1},
    {.name = "bias", .rank = 1, .shape = {100}, .lr_factor = 1},
    {.name = "gain", .rank = 1, .shape = {30}, .lr_factor = 1},
};
static const uint16_t placement[FAKE_UNITS] = {0, 1, 1, 0};
/* What `more` names again is its. */
static const struct wire_pair usual_spec[] = {
    {"name", "fake"}, {"updater.kind", "sgd"}, {"lr.base", "1"}, {"staleness.policy", "constant"}};

const struct tensor_spec *fake_tensors(size_t *count) {
    *count = sizeof tensors / sizeof *tensors;
    return tensors;
}

/* A client that has gone meanwhile gets nothing. */
static void send_out(struct fake_cluster *cluster, void *socket) {
    if (net_send(socket, &cluster->out) != LG_OK)
        cluster->unheard++;
}

/* ---- shards */

static void shard_says(void *context, uint64_t route, const struct wire_message *message,
                       struct snapshot *const *snapshots, size_t snapshot_count) {
    struct fake_cluster *cluster = context;
    uint8_t id[8];
    (void)snapshots;
    (void)snapshot_count;
    if (route == SHARD_ROUTE_CONTROL) {
        ck_assert_int_eq(message->kind, WIRE_ACK);
        ck_assert_msg(message->ack.status == LG_OK, "%s", message->ack.reason);
        return;
    }
    size_t bytes = wire_route_unpack(route, id);
    ck_assert_int_eq(net_message_add(&cluster->out, id, bytes), LG_OK);
    ck_assert_int_eq(wire_net_add(message, &cluster->out), LG_OK);
    send_out(cluster, cluster->data[cluster->replying].socket);
}

static void command(struct fake_cluster *cluster, unsigned shard, const struct wire_message *message) {
    shard_receive(cluster->shards[shard], &(struct shard_input){.route = SHARD_ROUTE_CONTROL, .message = message});
}

static void open_job(struct fake_cluster *cluster, unsigned index, uint64_t epoch) {
    struct wire_message open = {.kind = WIRE_JOB_OPEN,
                                .request = 1,
                                .job_open = {.job = FAKE_JOB,
                                             .name = "fake",
                                             .shard = index,
                                             .slot = index,
                                             .epoch = epoch,
                                             .map_version = MAP,
                                             .train_samples = 1000,
                                             .spec = cluster->spec,
                                             .spec_count = cluster->spec_count},
                                .tensors = tensors,
                                .tensor_count = sizeof tensors / sizeof *tensors,
                                .placement = placement,
                                .placement_count = FAKE_UNITS};
    command(cluster, index, &open);
}

static void open_shard(struct fake_cluster *cluster, unsigned index) {
    struct shard_config config = {.index = index,
                                  .credit_bytes = 64 << 20,
                                  .session_credit_bytes = 4 << 20,
                                  .window = 64,
                                  .sessions_max = FAKE_SESSIONS_MAX,
                                  .reject_nonfinite = true,
                                  .local = cluster->doors[index] ? local_door_name(cluster->doors[index]) : NULL,
                                  .isa = ISA_BASE};
    struct shard_sink sink = {.context = cluster, .send = shard_says};
    struct lg_error error = {0};
    ck_assert_msg(shard_new(&config, &sink, &cluster->shards[index], &error) == LG_OK, "%s", error.message);
    open_job(cluster, index, EPOCH);
}

static void open_session(struct fake_cluster *cluster, uint32_t shard, const struct fake_session *session,
                         bool may_push) {
    struct wire_message open = {.kind = WIRE_SESSION_OPEN,
                                .request = 1,
                                .session_open = {.job = FAKE_JOB,
                                                 .shard = shard,
                                                 .session = session->id,
                                                 .incarnation = 1,
                                                 .token = session->token,
                                                 .may_push = may_push,
                                                 .may_initialise = true}};
    command(cluster, shard, &open);
}

/* ---- sockets */

static void bind_socket(struct fake_cluster *cluster, struct fake_socket *at) {
    struct lg_error error = {0};
    char actual[NET_ENDPOINT_BYTES];
    ck_assert_msg(net_socket_open(cluster->zmq, NET_SERVER, NULL, &at->socket, &error) == LG_OK, "%s", error.message);
    enum lg_status status = LG_EXISTS;
    for (int i = 0; status == LG_EXISTS && i < 5000; i++) { /* ZeroMQ lets go of a closed port when it comes to it */
        status = net_bind(at->socket, at->endpoint, actual, &error);
        if (status != LG_OK)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    ck_assert_msg(status == LG_OK, "%s", error.message);
    memcpy(at->endpoint, actual, sizeof actual);
}

static void close_socket(struct fake_socket *at) {
    net_socket_close(at->socket);
    at->socket = NULL;
}

/* ---- the coordinator */

static void answer(struct fake_cluster *cluster, uint64_t route, uint64_t request, struct wire_message *message) {
    uint8_t id[8];
    size_t bytes = wire_route_unpack(route, id);
    message->request = request;
    ck_assert_int_eq(net_message_add(&cluster->out, id, bytes), LG_OK);
    ck_assert_int_eq(wire_net_add(message, &cluster->out), LG_OK);
    send_out(cluster, cluster->coordinator.socket);
}

static void take_join(struct fake_cluster *cluster, uint64_t route, const struct wire_message *message) {
    struct fake_knobs *knobs = &cluster->knobs;
    struct wire_message reply = {.kind = WIRE_JOIN_REPLY};
    knobs->joins++;
    if (knobs->stray_answers) {
        struct wire_message stray = {.kind = WIRE_TRAINER_BEAT_REPLY,
                                     .trainer_beat_reply = {.status = LG_FENCED, .reason = "of another life"}};
        answer(cluster, route, 0, &stray);
    }
    if (knobs->join_refusals > 0 || knobs->deny_joins) {
        reply.join_reply.status = knobs->deny_joins ? LG_DENIED : LG_UNAVAILABLE;
        reply.join_reply.reason = knobs->deny_joins ? "the token is wrong" : "needs 3.2 GiB, 1.1 GiB free";
        reply.join_reply.retry_ms = RETRY_MS;
        knobs->join_refusals -= knobs->join_refusals > 0;
        answer(cluster, route, message->request, &reply);
        return;
    }
    ck_assert_uint_lt(cluster->session_count, FAKE_SESSIONS_MAX);
    struct fake_session *session = &cluster->sessions[cluster->session_count++];
    *session = (struct fake_session){.id = 1000 + cluster->session_count, .token = 77 * cluster->session_count};
    struct wire_shard_address addresses[FAKE_SHARDS];
    for (uint32_t i = 0; i < FAKE_SHARDS; i++) {
        addresses[i] = (struct wire_shard_address){i, cluster->data[i].endpoint};
        open_session(cluster, i, session, message->join.role != WIRE_ROLE_OBSERVER);
    }
    reply.join_reply = (struct wire_join_reply){.status = LG_OK,
                                                .job = FAKE_JOB,
                                                .session = session->id,
                                                .incarnation = 1,
                                                .token = session->token,
                                                .map_version = MAP,
                                                .shards = addresses,
                                                .shard_count = FAKE_SHARDS,
                                                .spec = cluster->spec,
                                                .spec_count = cluster->spec_count};
    reply.tensors = tensors;
    reply.tensor_count = sizeof tensors / sizeof *tensors;
    reply.placement = placement;
    reply.placement_count = FAKE_UNITS;
    answer(cluster, route, message->request, &reply);
}

static struct fake_session *session_of(struct fake_cluster *cluster, uint64_t id) {
    for (unsigned i = 0; i < cluster->session_count; i++)
        if (cluster->sessions[i].id == id)
            return &cluster->sessions[i];
    ck_abort_msg("the client named a session that was never given out");
    return NULL;
}

static struct wire_lease_grant grant_next(struct fake_cluster *cluster) {
    struct fake_knobs *knobs = &cluster->knobs;
    struct wire_lease_grant grant = {.status = LG_OK, .kind = WIRE_LEASE_WAIT, .retry_ms = RETRY_MS};
    if (!cluster->initialised) {
        if (!cluster->initialising) {
            grant.kind = WIRE_LEASE_INITIALISE;
            grant.lease = ++cluster->next_lease;
        }
        cluster->initialising = true;
    } else if (cluster->next_sample < knobs->samples) {
        uint64_t left = knobs->samples - cluster->next_sample;
        grant.kind = WIRE_LEASE_TRAIN;
        grant.lease = ++cluster->next_lease;
        grant.fence = 1;
        grant.first = cluster->next_sample;
        grant.end = grant.first + (left < knobs->slice ? left : knobs->slice);
        cluster->next_sample = grant.end;
        cluster->leases_out++;
        if (grant.first < knobs->cut && knobs->cut < grant.end) {
            grant.cuts = &knobs->cut;
            grant.cut_count = 1;
        }
    } else if (knobs->samples > 0 && cluster->leases_out == 0)
        grant.kind = WIRE_LEASE_FINISHED;
    return grant;
}

static void take_lease_request(struct fake_cluster *cluster, uint64_t route, const struct wire_message *message) {
    struct fake_knobs *knobs = &cluster->knobs;
    struct fake_session *session = session_of(cluster, message->lease_request.session);
    knobs->lease_requests++;
    knobs->last_rate = message->lease_request.samples_per_second;
    if (session->lease_request == message->request)
        knobs->repeated_requests++;
    else {
        session->lease_request = message->request;
        session->grant = grant_next(cluster);
        knobs->leases_granted += session->grant.kind != WIRE_LEASE_WAIT;
    }
    struct wire_message reply = {.kind = WIRE_LEASE_GRANT, .lease_grant = session->grant};
    answer(cluster, route, message->request, &reply);
}

static void acknowledge(struct fake_cluster *cluster, uint64_t route, const struct wire_message *message) {
    struct wire_message reply = {.kind = WIRE_ACK, .ack = {.status = LG_OK}};
    answer(cluster, route, message->request, &reply);
}

static void take_done(struct fake_cluster *cluster, uint64_t route, const struct wire_message *message) {
    struct fake_knobs *knobs = &cluster->knobs;
    (void)session_of(cluster, message->lease_done.session);
    if (knobs->drop_dones > 0) {
        knobs->drop_dones--;
        return;
    }
    knobs->dones++;
    if (!cluster->initialised)
        cluster->initialised = true;
    else
        cluster->leases_out--;
    acknowledge(cluster, route, message);
}

static void take_beat(struct fake_cluster *cluster, uint64_t route, const struct wire_message *message) {
    struct fake_knobs *knobs = &cluster->knobs;
    struct wire_message reply = {.kind = WIRE_TRAINER_BEAT_REPLY, .trainer_beat_reply = {.status = LG_OK}};
    knobs->beats++;
    knobs->last_steps = message->trainer_beat.steps;
    snprintf(knobs->last_state, sizeof knobs->last_state, "%s", message->trainer_beat.state);
    if (knobs->fence) {
        reply.trainer_beat_reply.status = LG_FENCED;
        reply.trainer_beat_reply.reason = "no step for 30 s";
    }
    answer(cluster, route, message->request, &reply);
}

static void coordinator_take(struct fake_cluster *cluster, uint64_t route, const struct wire_message *message) {
    struct fake_knobs *knobs = &cluster->knobs;
    switch (message->kind) {
    case WIRE_JOIN:
        take_join(cluster, route, message);
        break;
    case WIRE_LEASE_REQUEST:
        take_lease_request(cluster, route, message);
        break;
    case WIRE_LEASE_DONE:
        take_done(cluster, route, message);
        break;
    case WIRE_EVAL_REPORT:
        knobs->evaluations++;
        acknowledge(cluster, route, message);
        break;
    case WIRE_TRAINER_BEAT:
        take_beat(cluster, route, message);
        break;
    case WIRE_LEAVE:
        knobs->leaves++;
        snprintf(knobs->last_reason, sizeof knobs->last_reason, "%s", message->leave.reason);
        acknowledge(cluster, route, message);
        break;
    default:
        ck_abort_msg("the client sent a %s to the coordinator", wire_kind_name(message->kind));
    }
}

/* ---- the thread */

/* `shard` FAKE_SHARDS: the coordinator's socket. */
static void take_all(struct fake_cluster *cluster, unsigned shard) {
    struct fake_socket *at = shard == FAKE_SHARDS ? &cluster->coordinator : &cluster->data[shard];
    bool mute = shard == FAKE_SHARDS ? cluster->knobs.mute : cluster->knobs.shards_mute;
    while (at->socket && net_receive(at->socket, &cluster->in) == LG_OK) {
        struct wire_message message;
        struct lg_error error = {0};
        uint64_t route = wire_route_pack(net_frame_data(&cluster->in, 0), net_frame_bytes(&cluster->in, 0));
        ck_assert_msg(wire_net_decode(&cluster->in, 1, cluster->arena, &message, &error) == LG_OK, "%s", error.message);
        if (mute)
            continue;
        if (shard == FAKE_SHARDS) {
            coordinator_take(cluster, route, &message);
            continue;
        }
        cluster->replying = shard;
        if (message.kind == WIRE_PUSH && message.push.ring &&
            local_door_resolve(cluster->doors[shard], &message, cluster->payload, &error) != LG_OK) {
            shard_refuse(cluster->shards[shard], route, message.request, message.push.seq, &error);
            continue;
        }
        shard_receive(cluster->shards[shard], &(struct shard_input){.route = route, .message = &message});
    }
}

/* What other threads ask for is done here: this thread alone touches sockets. */
static void obey(struct fake_cluster *cluster) {
    for (unsigned i = 0; i <= FAKE_SHARDS; i++) {
        struct fake_socket *at = i == FAKE_SHARDS ? &cluster->coordinator : &cluster->data[i];
        if (cluster->cut[i] || !cluster->wanted[i])
            close_socket(at);
        if (cluster->wanted[i] && !at->socket)
            bind_socket(cluster, at);
        cluster->cut[i] = false;
    }
    cluster->obeyed = cluster->asked;
    pthread_cond_broadcast(&cluster->changed);
}

static void *serve(void *context) {
    struct fake_cluster *cluster = context;
    for (bool going = true; going;) {
        zmq_pollitem_t items[FAKE_SHARDS + 1];
        int count = 0;
        for (unsigned i = 0; i <= FAKE_SHARDS; i++) {
            void *socket = i == FAKE_SHARDS ? cluster->coordinator.socket : cluster->data[i].socket;
            if (socket)
                items[count++] = (zmq_pollitem_t){.socket = socket, .events = ZMQ_POLLIN};
        }
        (void)zmq_poll(items, count, POLL_MS);
        pthread_mutex_lock(&cluster->mutex);
        for (unsigned i = 0; i <= FAKE_SHARDS; i++)
            take_all(cluster, i);
        for (unsigned i = 0; i < FAKE_SHARDS; i++)
            if (cluster->doors[i] && cluster->data[i].socket)
                local_door_serve(cluster->doors[i], cluster->shards[i], 0);
        if (cluster->obeyed != cluster->asked)
            obey(cluster);
        going = !cluster->stopping;
        pthread_mutex_unlock(&cluster->mutex);
    }
    return NULL;
}

/* Under the mutex: waits until the thread has done what was asked. */
static void wait_obeyed(struct fake_cluster *cluster) {
    unsigned ticket = ++cluster->asked;
    while ((int)(cluster->obeyed - ticket) < 0)
        pthread_cond_wait(&cluster->changed, &cluster->mutex);
}

/* ---- for the test */

static void take_spec(struct fake_cluster *cluster, const struct wire_pair *more) {
    for (; more && more->key; more++)
        cluster->spec[cluster->spec_count++] = *more;
    for (size_t i = 0; i < sizeof usual_spec / sizeof *usual_spec; i++) {
        bool named = false;
        for (size_t k = 0; k < cluster->spec_count; k++)
            named = named || strcmp(cluster->spec[k].key, usual_spec[i].key) == 0;
        if (!named)
            cluster->spec[cluster->spec_count++] = usual_spec[i];
    }
    ck_assert_uint_le(cluster->spec_count, SPEC_MAX);
}

struct fake_cluster *fake_cluster_start_over(enum fake_transport transport, const struct wire_pair *more) {
    struct fake_cluster *cluster = calloc(1, sizeof *cluster);
    ck_assert_ptr_nonnull(cluster);
    pthread_mutex_init(&cluster->mutex, NULL);
    pthread_cond_init(&cluster->changed, NULL);
    cluster->zmq = zmq_ctx_new();
    cluster->arena = wire_arena_new(16 << 20);
    cluster->knobs = (struct fake_knobs){.slice = 8};
    take_spec(cluster, more);
    if (transport == FAKE_IPC) {
        snprintf(cluster->ipc_dir, sizeof cluster->ipc_dir, "/tmp/lagoon-test-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(cluster->ipc_dir));
    }
    for (unsigned i = 0; i <= FAKE_SHARDS; i++) {
        struct fake_socket *at = i == FAKE_SHARDS ? &cluster->coordinator : &cluster->data[i];
        if (transport == FAKE_IPC && i < FAKE_SHARDS)
            snprintf(at->endpoint, sizeof at->endpoint, "ipc://%s/%u", cluster->ipc_dir, i);
        else
            snprintf(at->endpoint, sizeof at->endpoint, "tcp://127.0.0.1:0");
        bind_socket(cluster, at);
        cluster->wanted[i] = true;
    }
    for (unsigned i = 0; i < FAKE_SHARDS; i++) {
        if (transport == FAKE_LOCAL)
            ck_assert_int_eq(local_door_open(&cluster->doors[i], NULL), LG_OK);
        open_shard(cluster, i);
    }
    ck_assert_int_eq(pthread_create(&cluster->thread, NULL, serve, cluster), 0);
    return cluster;
}

struct fake_cluster *fake_cluster_start(void) {
    return fake_cluster_start_over(FAKE_TCP, NULL);
}

void fake_cluster_stop(struct fake_cluster *cluster) {
    pthread_mutex_lock(&cluster->mutex);
    cluster->stopping = true;
    pthread_mutex_unlock(&cluster->mutex);
    pthread_join(cluster->thread, NULL);
    close_socket(&cluster->coordinator);
    for (unsigned i = 0; i < FAKE_SHARDS; i++) {
        close_socket(&cluster->data[i]);
        shard_free(cluster->shards[i]);
        local_door_close(cluster->doors[i]);
    }
    net_message_clear(&cluster->in);
    net_message_clear(&cluster->out);
    zmq_ctx_term(cluster->zmq);
    for (unsigned i = 0; cluster->ipc_dir[0] && i < FAKE_SHARDS; i++)
        (void)unlink(cluster->data[i].endpoint + strlen("ipc://"));
    if (cluster->ipc_dir[0])
        ck_assert_int_eq(rmdir(cluster->ipc_dir), 0);
    wire_arena_free(cluster->arena);
    pthread_cond_destroy(&cluster->changed);
    pthread_mutex_destroy(&cluster->mutex);
    free(cluster);
}

struct fake_knobs *fake_lock(struct fake_cluster *cluster) {
    pthread_mutex_lock(&cluster->mutex);
    return &cluster->knobs;
}

void fake_unlock(struct fake_cluster *cluster) {
    pthread_mutex_unlock(&cluster->mutex);
}

const char *fake_address(const struct fake_cluster *cluster) {
    return cluster->coordinator.endpoint + strlen("tcp://");
}

static void cut(struct fake_cluster *cluster, unsigned index, bool wanted) {
    pthread_mutex_lock(&cluster->mutex);
    cluster->cut[index] = true;
    cluster->wanted[index] = wanted;
    wait_obeyed(cluster);
    pthread_mutex_unlock(&cluster->mutex);
}

void fake_cut_shard(struct fake_cluster *cluster, unsigned shard) {
    cut(cluster, shard, true);
}

void fake_cut_coordinator(struct fake_cluster *cluster) {
    cut(cluster, FAKE_SHARDS, true);
}

void fake_coordinator_reachable(struct fake_cluster *cluster, bool reachable) {
    cut(cluster, FAKE_SHARDS, reachable);
}

void fake_close_sessions(struct fake_cluster *cluster, const char *reason) {
    pthread_mutex_lock(&cluster->mutex);
    for (uint32_t i = 0; i < FAKE_SHARDS; i++)
        for (unsigned at = 0; at < cluster->session_count; at++) {
            struct wire_message close = {.kind = WIRE_SESSION_CLOSE,
                                         .request = 1,
                                         .session_close = {.job = FAKE_JOB,
                                                           .shard = i,
                                                           .session = cluster->sessions[at].id,
                                                           .incarnation = 1,
                                                           .reason = reason}};
            command(cluster, i, &close);
        }
    pthread_mutex_unlock(&cluster->mutex);
}

void fake_break_off(struct fake_cluster *cluster, uint32_t number) {
    pthread_mutex_lock(&cluster->mutex);
    const struct shard_job *job = shard_find_job(cluster->shards[placement[number]], FAKE_JOB);
    local_unit_begin(job->units[job->local[number] - 1].shared);
    pthread_mutex_unlock(&cluster->mutex);
}

void fake_reopen(struct fake_cluster *cluster, unsigned shard) {
    struct wire_message close = {.kind = WIRE_JOB_CLOSE, .request = 1, .job_close = {.job = FAKE_JOB, .shard = shard}};
    pthread_mutex_lock(&cluster->mutex);
    command(cluster, shard, &close);
    open_job(cluster, shard, EPOCH + 1);
    for (unsigned i = 0; i < cluster->session_count; i++)
        open_session(cluster, shard, &cluster->sessions[i], true);
    pthread_mutex_unlock(&cluster->mutex);
}

float fake_value(struct fake_cluster *cluster, uint32_t unit) {
    pthread_mutex_lock(&cluster->mutex);
    const float *values = shard_unit_data(cluster->shards[placement[unit]], FAKE_JOB, unit, NULL, NULL);
    ck_assert_ptr_nonnull(values);
    float value = values[0];
    pthread_mutex_unlock(&cluster->mutex);
    return value;
}

void fake_stats(struct fake_cluster *cluster, unsigned shard, struct wire_shard_job_stats *stats) {
    pthread_mutex_lock(&cluster->mutex);
    ck_assert_uint_eq(shard_stats(cluster->shards[shard], stats, 1), 1);
    pthread_mutex_unlock(&cluster->mutex);
}
