/* Servers and agents: who is there, since when, and who is not any more.
 *
 * A member is known by its number and its instance, a random number of the process. A process that comes back (after a
 * stop, a lost connection, a restart of the coordinator) has its old instance and keeps its number and shards; a new
 * instance in an old place means that what the old one held in memory is gone. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/units.h"
#include "server/coordinator/core.h"

enum { REFUSAL_LOG_MS = 10000 };

static const char *const kind_names[] = {"server", "worker"};
static const char *const kind_labels[] = {"server", "agent"};

struct member *member_find(const struct coordinator *core, uint64_t number) {
    for (size_t i = 0; i < core->members.count; i++) {
        struct member *member = core->members.items[i];
        if (member->number == number)
            return member;
    }
    return NULL;
}

struct member *member_of_shard(const struct coordinator *core, uint32_t shard, size_t *at) {
    for (size_t i = 0; i < core->members.count; i++) {
        struct member *member = core->members.items[i];
        for (size_t j = 0; member->kind == WIRE_MEMBER_SERVER && j < member->shard_count; j++)
            if (member->shards[j] == shard) {
                if (at)
                    *at = j;
                return member;
            }
    }
    return NULL;
}

bool member_is_alive(const struct member *member) {
    return !member->dead;
}

static void free_texts(char **texts, size_t count) {
    for (size_t i = 0; texts && i < count; i++)
        free(texts[i]);
    free(texts);
}

void member_free(struct member *member) {
    free_texts(member->endpoints, member->shard_count);
    free_texts(member->devices, member->device_count);
    free(member->shards);
    free(member->device_numbers);
    free(member);
}

static void put_texts(struct buf *buf, char *const *texts, size_t count) {
    for (size_t i = 0; i < count; i++)
        buf_printf(buf, "%s%s", i ? "," : "", texts[i]);
}

void member_put(struct coordinator *core, const struct member *member) {
    struct buf endpoints = {0}, devices = {0}, shards = {0};
    put_texts(&endpoints, member->endpoints, member->endpoints ? member->shard_count : 0);
    put_texts(&devices, member->devices, member->device_count);
    for (size_t i = 0; i < member->shard_count; i++)
        buf_printf(&shards, "%s%u", i ? "," : "", member->shards[i]);
    core_put(core, STORE_TABLE_MEMBER,
             &(struct store_member){member->number, member->kind, member->name, member->instance,
                                    buf_string(&endpoints), buf_string(&shards), member->memory_bytes, member->slots,
                                    buf_string(&devices), member->http, member->pid, member->version, member->cores});
    buf_deinit(&endpoints);
    buf_deinit(&devices);
    buf_deinit(&shards);
}

/* ---- registration */

static char **copy_texts(const char *const *texts, size_t count) {
    char **copies = calloc(count ? count : 1, sizeof *copies);
    for (size_t i = 0; copies && i < count; i++) {
        copies[i] = strdup(texts[i]);
        if (!copies[i]) {
            free_texts(copies, count);
            return NULL;
        }
    }
    return copies;
}

/* Keeps the numbers there are, as far as they go, and takes new ones for the rest. */
static bool number_shards(struct coordinator *core, struct member *member, size_t count) {
    uint32_t *shards = realloc(member->shards, (count ? count : 1) * sizeof *shards);
    if (!shards)
        return false;
    member->shards = shards;
    for (size_t i = member->shard_count; i < count; i++) {
        shards[i] = (uint32_t)core->next_shard++;
        core->counters_changed = true;
    }
    return true;
}

static bool take_description(struct coordinator *core, struct member *member, const struct wire_register *from) {
    size_t shards = member->kind == WIRE_MEMBER_SERVER ? from->endpoint_count : 0;
    char **endpoints = copy_texts(from->endpoints, shards);
    char **devices = copy_texts(from->devices, from->device_count);
    if (!endpoints || !devices || !number_shards(core, member, shards)) {
        free_texts(endpoints, shards);
        free_texts(devices, from->device_count);
        return false;
    }
    free_texts(member->endpoints, member->shard_count);
    free_texts(member->devices, member->device_count);
    member->endpoints = endpoints;
    member->shard_count = shards;
    member->devices = devices;
    member->device_count = from->device_count;
    core_copy(member->name, sizeof member->name, from->name[0] ? from->name : "unnamed");
    core_copy(member->http, sizeof member->http, from->http);
    core_copy(member->version, sizeof member->version, from->version);
    member->instance = from->instance;
    member->memory_bytes = from->memory_bytes;
    member->slots = from->slots;
    member->pid = from->pid;
    member->cores = from->cores;
    member->changed = true;
    return true;
}

void member_entitle(const struct coordinator *core, struct member *member) {
    for (int number = 1; number < CORE_MEMBERS_MAX; number++) {
        bool taken = false;
        core_copy(member->title, sizeof member->title, member->name);
        if (number > 1)
            snprintf(member->title, sizeof member->title, "%.100s-%d", member->name, number);
        for (size_t i = 0; i < core->members.count; i++) {
            const struct member *other = core->members.items[i];
            taken =
                taken || (other != member && other->kind == member->kind && strcmp(other->title, member->title) == 0);
        }
        if (!taken)
            return;
    }
}

static struct member *find_instance(const struct coordinator *core, const struct wire_register *from) {
    for (size_t i = 0; i < core->members.count; i++) {
        struct member *member = core->members.items[i];
        if (member->kind == from->kind && member->instance == from->instance)
            return member;
    }
    return NULL;
}

static bool shares_endpoint(const struct member *member, const struct wire_register *from) {
    for (size_t i = 0; i < member->shard_count; i++)
        for (size_t j = 0; j < from->endpoint_count; j++)
            if (strcmp(member->endpoints[i], from->endpoints[j]) == 0)
                return true;
    return false;
}

/* Whose place a new instance takes: for servers, whoever had one of its ports, else a dead one of its name; for agents
 * the one of its name. */
static struct member *find_predecessor(const struct coordinator *core, const struct wire_register *from) {
    struct member *namesake = NULL;
    for (size_t i = 0; i < core->members.count; i++) {
        struct member *member = core->members.items[i];
        if (member->kind != from->kind)
            continue;
        if (member->kind == WIRE_MEMBER_SERVER && shares_endpoint(member, from))
            return member;
        if (strcmp(member->name, from->name) == 0 && (member->kind == WIRE_MEMBER_AGENT || member->dead))
            namesake = member;
    }
    return namesake;
}

/* What is wrong with a registration, or LG_OK. */
static enum lg_status check(const struct coordinator *core, const struct wire_register *from,
                            const struct member *predecessor, struct lg_error *error) {
    if (from->instance == 0)
        return lg_fail(error, LG_INVALID, "instance 0: a member needs a random number of its own");
    if (from->kind == WIRE_MEMBER_SERVER && from->endpoint_count == 0)
        return lg_fail(error, LG_INVALID, "a server without endpoints has no shards");
    for (size_t i = 0; i < from->endpoint_count; i++)
        if (strchr(from->endpoints[i], ',') || strlen(from->endpoints[i]) >= CORE_NAME_BYTES)
            return lg_fail(error, LG_INVALID, "\"%.60s\" is no endpoint", from->endpoints[i]);
    for (size_t i = 0; i < from->device_count; i++)
        if (strchr(from->devices[i], ',') || strlen(from->devices[i]) >= 64)
            return lg_fail(error, LG_INVALID, "\"%.60s\" is no device", from->devices[i]);
    if (core->members.count >= CORE_MEMBERS_MAX && !predecessor)
        return lg_fail(error, LG_NO_MEMORY, "there are %d members already, the most a coordinator takes",
                       CORE_MEMBERS_MAX);
    if (from->kind == WIRE_MEMBER_SERVER && from->member != 0)
        return lg_fail(error, LG_DENIED,
                       "member %" PRIu64 " of this instance is not known here: the coordinator has another database or "
                       "forgot it after a long silence; restart the server",
                       from->member);
    if (from->kind == WIRE_MEMBER_AGENT && predecessor && !predecessor->dead)
        return lg_fail(error, LG_EXISTS,
                       "another worker named \"%.60s\" was heard of %.1f s ago; give this one another name, or wait "
                       "until the other is given up",
                       from->name, (double)core_since_ms(core, predecessor->heard_ns) / 1000);
    return LG_OK;
}

static void lose(struct coordinator *core, const struct member *member, const char *why) {
    if (member->kind == WIRE_MEMBER_AGENT) {
        trainers_lose_agent(core, member, why);
        return;
    }
    jobs_lose_server(core, member, why);
    for (size_t i = 0; i < member->shard_count; i++)
        tasks_lose_shard(core, member->shards[i]);
}

/* A new instance: takes the place of its predecessor or gets a number of its own. */
static struct member *admit(struct coordinator *core, const struct wire_register *from, struct lg_error *error) {
    struct member *member = find_predecessor(core, from);
    if (check(core, from, member, error) != LG_OK)
        return NULL;
    if (member) {
        log_warn("member-replaced", "%s \"%s\" is another process now: what the old one held is gone",
                 kind_names[from->kind], member->title);
        lose(core, member, "was restarted and its memory was lost");
    } else {
        member = calloc(1, sizeof *member);
        if (!member || !list_add(&core->members, member)) {
            free(member);
            lg_fail(error, LG_NO_MEMORY, "no memory for one more member");
            return NULL;
        }
        member->number = core->next_member++;
        core->counters_changed = true;
    }
    member->kind = from->kind;
    member->dead = false;
    member->registered_ns = core->now.now_ns;
    return member;
}

static void heard(struct coordinator *core, struct member *member, uint64_t route) {
    if (member->dead) {
        log_info("member-back", "%s \"%s\" is back after %.1f s of silence", kind_names[member->kind], member->title,
                 (double)core_since_ms(core, member->heard_ns) / 1000);
    }
    member->dead = false;
    member->heard_ns = core->now.now_ns;
    member->route = route;
}

static void describe(const struct member *member, char *text, size_t bytes) {
    char size[UNITS_TEXT_BYTES];
    if (member->kind == WIRE_MEMBER_SERVER)
        snprintf(text, bytes, "%zu shards, %s", member->shard_count,
                 units_bytes(member->memory_bytes, size, sizeof size));
    else
        snprintf(text, bytes, "%u slots", member->slots);
}

/* Whoever is refused tries again and again: one line in ten seconds is enough. */
static void note_refusal(struct coordinator *core, const struct wire_register *from, const struct lg_error *error) {
    if (core->refused_instance == from->instance && core_since_ms(core, core->refused_ns) < REFUSAL_LOG_MS)
        return;
    core->refused_instance = from->instance;
    core->refused_ns = core->now.now_ns;
    log_warn("member-refused", "refused %s \"%.60s\": %s", kind_names[from->kind], from->name, error->message);
}

void members_register(struct coordinator *core, const struct coordinator_input *input) {
    const struct wire_register *from = &input->message->register_;
    struct lg_error error = {0};
    struct wire_message reply = {.kind = WIRE_REGISTER_REPLY, .request = input->message->request};
    struct member *member = from->instance ? find_instance(core, from) : NULL;
    bool fresh = !member;
    if (fresh)
        member = admit(core, from, &error);
    if (member && !take_description(core, member, from)) {
        lg_fail(&error, LG_NO_MEMORY, "no memory for one more member");
        member = NULL;
    }
    if (!member) {
        note_refusal(core, from, &error);
        reply.register_reply = (struct wire_register_reply){.status = (uint32_t)error.status, .reason = error.message};
        core_send(core, input->route, &reply);
        return;
    }
    heard(core, member, input->route);
    member_entitle(core, member);
    if (fresh || !member->registered) {
        char text[96];
        describe(member, text, sizeof text);
        log_info("member", "%s \"%s\" (member %" PRIu64 ", pid %" PRIu64 ") %s: %s", kind_names[member->kind],
                 member->title, member->number, member->pid, fresh ? "joined" : "registered again", text);
    }
    member->registered = true;
    reply.register_reply = (struct wire_register_reply){.member = member->number,
                                                        .shards = member->shards,
                                                        .shard_count = member->shard_count,
                                                        .beat_ms = (uint64_t)core->config.beat_ms,
                                                        .coordinator = core->config.instance};
    core_send(core, input->route, &reply);
}

/* ---- beats */

static void take_stats(struct coordinator *core, const struct member *server, const struct wire_beat *beat) {
    for (size_t i = 0; i < beat->stat_count; i++) {
        const struct wire_shard_job_stats *stats = &beat->stats[i];
        struct job *job = job_find(core, stats->job);
        size_t slot = job ? job_slot_of(job, stats->shard) : SIZE_MAX;
        if (slot != SIZE_MAX && member_of_shard(core, stats->shard, NULL) == server) {
            job->stats[slot] = *stats;
            numbers_take_work(core, job, slot);
        }
    }
}

void members_beat(struct coordinator *core, const struct coordinator_input *input) {
    const struct wire_beat *beat = &input->message->beat;
    struct member *member = member_find(core, beat->member);
    struct wire_message reply = {.kind = WIRE_BEAT_REPLY, .request = input->message->request};
    if (!member || member->instance != beat->instance) {
        reply.beat_reply.register_again = true;
        core_send(core, input->route, &reply);
        return;
    }
    heard(core, member, input->route);
    member->memory_used_bytes = beat->memory_used_bytes;
    if (member->kind == WIRE_MEMBER_SERVER) {
        take_stats(core, member, beat);
    } else {
        trainers_seen(core, member, beat->trainers, beat->trainer_count);
        numbers_take_devices(member, beat);
    }
    reply.beat_reply.register_again = !member->registered;
    core_send(core, input->route, &reply);
}

uint32_t member_slots_used(const struct coordinator *core, uint64_t agent) {
    uint32_t used = 0;
    for (size_t i = 0; i < core->trainers.count; i++) {
        const struct trainer *trainer = core->trainers.items[i];
        used += trainer->agent == agent && !trainer->gone;
    }
    return used;
}

/* ---- silence */

/* A server of the same name that came after this one was last heard of: this one will not come back. */
static const struct member *successor_of(const struct coordinator *core, const struct member *dead) {
    for (size_t i = 0; i < core->members.count; i++) {
        const struct member *other = core->members.items[i];
        if (other != dead && other->kind == dead->kind && other->registered_ns > dead->heard_ns &&
            strcmp(other->name, dead->name) == 0)
            return other;
    }
    return NULL;
}

static void give_up(struct coordinator *core, struct member *member) {
    member->dead = true;
    member->dead_ns = core->now.now_ns;
    log_warn("member-silent", "%s \"%s\" has been silent for %.1f s: %s", kind_names[member->kind], member->title,
             (double)core_since_ms(core, member->heard_ns) / 1000,
             member->kind == WIRE_MEMBER_AGENT ? "its trainers are given up" : "its jobs wait for it");
    if (core->config.metrics)
        metric_add(metrics_cell(core->config.metrics, METRIC_EVICTIONS, &kind_labels[member->kind]), 1);
    if (member->kind == WIRE_MEMBER_AGENT)
        lose(core, member, "is silent");
    else if (successor_of(core, member))
        lose(core, member, "was restarted and its memory was lost");
}

static void forget(struct coordinator *core, struct member *member) {
    lose(core, member, "was silent for too long");
    core_remove(core, STORE_TABLE_MEMBER, &(struct store_member){.member = member->number});
    list_remove(&core->members, member);
    member_free(member);
}

void members_tick(struct coordinator *core) {
    int64_t forget_ms = CORE_FORGET_MEMBER_MS;
    if (core->config.server_grace_ms > forget_ms)
        forget_ms = core->config.server_grace_ms;
    for (size_t i = core->members.count; i-- > 0;) {
        struct member *member = core->members.items[i];
        if (!member->dead && core_since_ms(core, member->heard_ns) > core->config.dead_after_ms)
            give_up(core, member);
        if (member->dead && core_since_ms(core, member->dead_ns) > forget_ms)
            forget(core, member);
    }
}
