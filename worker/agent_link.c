/* The agent's line to the coordinator: registers, beats, takes commands, reports. Every answer may be lost: what
 * matters is sent again until it is acknowledged. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "proto/wire_net.h"
#include "worker/agent_host.h"
#include "worker/agent_internal.h"

enum {
    LINK_ARENA_BYTES = 16 << 20,
    LINK_QUEUE = 256,           /* messages kept for a coordinator that is away; lines wait in a queue of their own */
    REGISTER_MS = 250,          /* between attempts to register */
    REFUSED_MS = 1000,          /* and where the coordinator does not want this worker yet */
    RESEND_MS = 1000,           /* of an exit that was not acknowledged */
    SILENT_MS = 3000,           /* without an answer: say so */
    SILENT_AGAIN_MS = 10000,    /* and say so again */
    LINES_BYTES_MAX = 48 << 10, /* of one LOG: its header frame may have 64 KiB */
    REQUEST_MEMBERSHIP = 1,     /* of REGISTER and BEAT; exits count on from there */
};

static bool link_send(struct agent *agent, const struct wire_message *message) {
    struct net_message out = {0};
    enum lg_status status = wire_net_add(message, &out);
    if (status == LG_OK)
        status = net_send(agent->link, &out);
    net_message_clear(&out);
    if (status != LG_OK)
        log_debug("link-send", "%s to the coordinator is not sent: %s", wire_kind_name(message->kind),
                  lg_status_text(status));
    return status == LG_OK;
}

/* ---- sending */

static void send_register(struct agent *agent, int64_t slots) {
    const char *devices[HOST_DEVICES_MAX];
    for (size_t i = 0; i < agent->device_count; i++)
        devices[i] = agent->devices[i];
    struct wire_message message = {.kind = WIRE_REGISTER, .request = REQUEST_MEMBERSHIP};
    message.register_ = (struct wire_register){
        .kind = WIRE_MEMBER_AGENT,
        .name = agent->name,
        .instance = agent->instance,
        .slots = (uint32_t)slots,
        .devices = devices,
        .device_count = agent->device_count,
        .http = http_url(agent->http),
        .pid = (uint64_t)getpid(),
        .version = LAGOON_VERSION,
        .member = agent->member,
        .cores = (uint64_t)host_cores(),
    };
    link_send(agent, &message);
}

static void send_beat(struct agent *agent) {
    uint64_t trainers[AGENT_SLOTS_MAX];
    struct device_sample samples[HOST_DEVICES_MAX];
    struct wire_device_stats devices[HOST_DEVICES_MAX];
    struct wire_message message = {.kind = WIRE_BEAT, .request = REQUEST_MEMBERSHIP};
    message.beat = (struct wire_beat){.member = agent->member,
                                      .instance = agent->instance,
                                      .trainers = trainers,
                                      .trainer_count = agent->trainer_count,
                                      .devices = devices,
                                      .device_count = agent_devices_take(agent->device_numbers, samples)};
    for (size_t i = 0; i < message.beat.device_count; i++)
        devices[i] = samples[i].stats;
    for (size_t i = 0; i < agent->trainer_count; i++)
        trainers[i] = agent->trainers[i]->trainer;
    link_send(agent, &message);
}

void agent_link_send_exit(struct agent *agent, struct agent_exit *exit) {
    struct wire_message message = {.kind = WIRE_TRAINER_EXIT, .request = exit->request};
    message.trainer_exit = (struct wire_trainer_exit){exit->trainer, exit->code, exit->signal, exit->reason};
    exit->sent_ms = uv_now(&agent->loop);
    if (agent->registered)
        link_send(agent, &message);
}

void agent_link_withdraw(struct agent *agent) {
    if (agent->registered)
        send_register(agent, 0);
}

/* One LOG of the next lines; false when nothing went out. */
static bool send_lines(struct agent *agent) {
    const char *lines[WIRE_LINES_MAX];
    struct wire_message message = {.kind = WIRE_LOG};
    size_t count =
        line_queue_peek(&agent->lines, lines, WIRE_LINES_MAX, LINES_BYTES_MAX, &message.log.job, &message.log.trainer);
    message.log.lines = lines;
    message.log.line_count = count;
    if (count == 0 || !link_send(agent, &message))
        return false;
    line_queue_remove(&agent->lines, count);
    return true;
}

void agent_link_flush_lines(struct agent *agent) {
    struct line_queue *queue = &agent->lines;
    if (!agent->registered)
        return;
    while (send_lines(agent))
        ;
    if (queue->dropped > 0 && queue->count == 0) {
        char text[128];
        uint64_t dropped = queue->dropped;
        queue->dropped = 0;
        snprintf(text, sizeof text, "%" PRIu64 " earlier lines are missing here: they came faster than they could go",
                 dropped);
        line_queue_add(queue, 0, 0, text);
        send_lines(agent);
    }
}

static void resend_exits(struct agent *agent, uint64_t now) {
    for (size_t i = 0; i < AGENT_EXITS_MAX; i++) {
        struct agent_exit *exit = &agent->exits[i];
        if (exit->request != 0 && !exit->acknowledged && now - exit->sent_ms >= RESEND_MS)
            agent_link_send_exit(agent, exit);
    }
}

static void remark_silence(struct agent *agent, uint64_t now) {
    uint64_t silent_ms = now - agent->heard_ms;
    if (silent_ms < SILENT_MS || (agent->silent && now - agent->noted_ms < SILENT_AGAIN_MS))
        return;
    log_warn("coordinator-silent",
             "the coordinator at %s has not answered for %" PRIu64 " s; %zu trainers go on, trying again",
             agent->config->coordinator, silent_ms / 1000, agent->trainer_count);
    agent->silent = true;
    agent->noted_ms = now;
}

static uint64_t interval_ms(const struct agent *agent) {
    if (agent->registered)
        return agent->beat_ms;
    return agent->refused ? REFUSED_MS : REGISTER_MS;
}

void agent_link_tick(struct agent *agent) {
    uint64_t now = uv_now(&agent->loop);
    if (now - agent->sent_ms >= interval_ms(agent)) {
        agent->sent_ms = now;
        if (agent->registered)
            send_beat(agent);
        else
            send_register(agent, agent->stopping ? 0 : agent->slots);
    }
    agent_link_flush_lines(agent);
    resend_exits(agent, now);
    remark_silence(agent, now);
}

/* ---- receiving */

static void take_register_reply(struct agent *agent, const struct wire_register_reply *reply) {
    if (reply->status != LG_OK) {
        if (!agent->refused)
            log_error("register-refused", "the coordinator refuses worker \"%s\": %s; trying again", agent->name,
                      reply->reason);
        agent->refused = true;
        agent->registered = false;
        return;
    }
    if (!agent->registered)
        log_info("registered", "worker \"%s\" is member %" PRIu64 " of the coordinator at %s", agent->name,
                 reply->member, agent->config->coordinator);
    agent->refused = false;
    agent->registered = true;
    agent->member = reply->member;
    agent->coordinator = reply->coordinator;
    if (reply->beat_ms >= AGENT_TICK_MS && reply->beat_ms <= 60000)
        agent->beat_ms = reply->beat_ms;
    for (size_t i = 0; i < AGENT_EXITS_MAX; i++)
        if (agent->exits[i].request != 0 && !agent->exits[i].acknowledged)
            agent_link_send_exit(agent, &agent->exits[i]);
}

static void take_beat_reply(struct agent *agent, const struct wire_beat_reply *reply) {
    if (!reply->register_again || !agent->registered) /* beats that were under way are all answered so */
        return;
    log_info("register-again", "the coordinator does not know this worker any more: registering again");
    agent->registered = false;
    agent->sent_ms = uv_now(&agent->loop);
    send_register(agent, agent->stopping ? 0 : agent->slots);
}

static void take_ack(struct agent *agent, uint64_t request) {
    for (size_t i = 0; i < AGENT_EXITS_MAX; i++)
        if (request != 0 && agent->exits[i].request == request)
            agent->exits[i].acknowledged = true;
}

static void take_stop(struct agent *agent, const struct wire_trainer_stop *stop) {
    struct agent_trainer *trainer = agent_find(agent, stop->trainer);
    if (trainer)
        agent_trainer_stop(trainer, stop->grace_ms ? stop->grace_ms : (uint64_t)agent->config->grace_ms,
                           stop->reason[0] ? stop->reason : "the coordinator asked");
}

/* A command was taken; those that want to know are told. */
static void acknowledge(struct agent *agent, const struct wire_message *command) {
    struct wire_message message = {.kind = WIRE_ACK, .request = command->request};
    if (command->request != 0)
        link_send(agent, &message);
}

static void dispatch(struct agent *agent, const struct wire_message *message) {
    switch (message->kind) {
    case WIRE_REGISTER_REPLY:
        take_register_reply(agent, &message->register_reply);
        break;
    case WIRE_BEAT_REPLY:
        take_beat_reply(agent, &message->beat_reply);
        break;
    case WIRE_ACK:
        take_ack(agent, message->request);
        break;
    case WIRE_TRAINER_START:
        acknowledge(agent, message);
        agent_trainer_start(agent, &message->trainer_start);
        break;
    case WIRE_TRAINER_STOP:
        acknowledge(agent, message);
        take_stop(agent, &message->trainer_stop);
        break;
    case WIRE_ERROR:
        log_warn("coordinator-error", "the coordinator answers: %s", message->error.reason);
        break;
    default:
        log_warn("unexpected", "a %s of the coordinator is passed over", wire_kind_name(message->kind));
    }
}

static void on_link_message(struct net_watch *watch, enum lg_status received, struct net_message *frames) {
    struct agent *agent = watch->data;
    struct wire_message message;
    struct lg_error error = {.message = "it has too many frames"};
    if (received != LG_OK || wire_net_decode(frames, 0, agent->arena, &message, &error) != LG_OK) {
        static const char *const socket[] = {"coordinator"};
        metric_add(metrics_cell(agent->metrics, METRIC_MALFORMED, socket), 1);
        log_warn("malformed", "dropped a message of the coordinator: %s", error.message);
        return;
    }
    if (agent->silent)
        log_info("coordinator-back", "the coordinator answers again");
    agent->silent = false;
    agent->heard_ms = uv_now(&agent->loop);
    dispatch(agent, &message);
}

enum lg_status agent_link_open(struct agent *agent, struct lg_error *error) {
    agent->beat_ms = 1000;
    agent->next_request = REQUEST_MEMBERSHIP + 1;
    agent->heard_ms = uv_now(&agent->loop);
    agent->arena = wire_arena_new(LINK_ARENA_BYTES);
    agent->zmq = zmq_ctx_new();
    if (!agent->arena || !agent->zmq)
        return lg_fail(error, LG_NO_MEMORY, "no memory for the connection to the coordinator");
    enum lg_status status =
        net_socket_open(agent->zmq, NET_CLIENT, &(struct net_options){.queue = LINK_QUEUE}, &agent->link, error);
    if (status == LG_OK)
        status = net_connect(agent->link, agent->config->endpoint, error);
    if (status == LG_OK)
        status = net_watch_start(&agent->link_watch, &agent->loop, agent->link, on_link_message, agent, error);
    agent->watching = status == LG_OK;
    return status;
}
