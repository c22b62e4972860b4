#include "tests/support/world.h"

#include <check.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/world_internal.h"

enum { LETTER_FRAMES = 4, ARENA_BYTES = 4 << 20 };

struct world_letter {
    struct world_letter *next;
    uint64_t route;
    size_t count;
    struct wire_bytes frames[LETTER_FRAMES];
};

static struct coordinator_moment moment(const struct world *world) {
    return (struct coordinator_moment){world->now_ms * 1000000, 1700000000000 + world->now_ms};
}

/* ---- letters: messages encoded, on their way to a route */

static struct world_letter *letter_new(uint64_t route, const struct wire_message *message) {
    struct world_letter *letter = calloc(1, sizeof *letter);
    struct wire_bytes raw[LETTER_FRAMES];
    size_t raw_count = 0;
    void *scratch = NULL;
    ck_assert_int_eq(wire_raw_frames(message, raw, LETTER_FRAMES - 1, &raw_count, &scratch), LG_OK);
    letter->route = route;
    letter->count = raw_count + 1;
    letter->frames[0].bytes = wire_header_bytes(message);
    ck_assert_uint_le(letter->frames[0].bytes, WIRE_HEADER_BYTES_MAX);
    void *header = malloc(letter->frames[0].bytes + 1);
    wire_header_write(message, header);
    letter->frames[0].data = header;
    for (size_t i = 0; i < raw_count; i++) {
        void *copy = malloc(raw[i].bytes + 1);
        memcpy(copy, raw[i].data, raw[i].bytes);
        letter->frames[i + 1] = (struct wire_bytes){copy, raw[i].bytes};
    }
    free(scratch);
    return letter;
}

static void letter_free(struct world_letter *letter) {
    for (size_t i = 0; i < letter->count; i++)
        free((void *)(uintptr_t)letter->frames[i].data);
    free(letter);
}

static void letter_decode(const struct world_letter *letter, struct wire_arena *arena, struct wire_message *message) {
    struct lg_error error = {0};
    enum lg_status status = wire_decode(letter->frames, letter->count, arena, message, &error);
    ck_assert_msg(status == LG_OK, "%s", error.message);
}

static void post(void *context, uint64_t route, const struct wire_message *message) {
    struct world *world = context;
    if (world->deaf)
        return;
    struct world_letter *letter = letter_new(route, message);
    if (world->last)
        world->last->next = letter;
    else
        world->first = letter;
    world->last = letter;
}

static void drop_letters(struct world *world) {
    while (world->first) {
        struct world_letter *letter = world->first;
        world->first = letter->next;
        letter_free(letter);
    }
    world->last = NULL;
}

static bool by_chance(struct world *world, uint32_t percent) {
    return percent > 0 && random_below(&world->random, 100) < percent;
}

/* ---- rows: durable before the letters of the same input leave */

static void store(void *context, const struct store_change *change) {
    struct world *world = context;
    ck_assert_uint_lt(world->change_count, sizeof world->changes / sizeof *world->changes);
    void *row = store_row_copy(change->table, change->row);
    world->changes[world->change_count++] = (struct store_change){change->table, change->remove, row};
}

static void commit(struct world *world) {
    struct lg_error error = {0};
    if (world->change_count > 0)
        ck_assert_msg(store_write(world->store, world->changes, world->change_count, &error) == LG_OK, "%s",
                      error.message);
    for (size_t i = 0; i < world->change_count; i++)
        free((void *)(uintptr_t)world->changes[i].row);
    world->change_count = 0;
}

static uint64_t secret(void *context) {
    return random_u64(&((struct world *)context)->secrets);
}

static void open_core(struct world *world) {
    struct coordinator_config config = {.instance = random_u64(&world->secrets),
                                        .beat_ms = 1000,
                                        .dead_after_ms = 5000,
                                        .server_grace_ms = 60000,
                                        .sessions_per_job_max = WORLD_SESSIONS_PER_JOB_MAX,
                                        .random = secret,
                                        .random_context = world};
    struct coordinator_sink sink = {world, post, store};
    ck_assert_int_eq(coordinator_new(&config, &sink, &world->core, NULL), LG_OK);
}

struct world *world_new(uint64_t seed) {
    struct world *world = calloc(1, sizeof *world);
    struct lg_error error = {0};
    random_init_stream(&world->random, seed, 1);
    random_init_stream(&world->secrets, seed, 2);
    world->arena = wire_arena_new(ARENA_BYTES);
    world->reply_arena = wire_arena_new(ARENA_BYTES);
    world->now_ms = 1000;
    world->next_route = ROUTE_TRAINER;
    world->next_request = 1000;
    world->tensors[0] = (struct tensor_spec){.name = "w", .rank = 2, .shape = {300, 300}, .lr_factor = 1};
    world->tensors[1] = (struct tensor_spec){.name = "v", .rank = 2, .shape = {300, 200}, .lr_factor = 1};
    world->tensors[2] = (struct tensor_spec){.name = "b", .rank = 1, .shape = {300}, .lr_factor = 1};
    world->tensor_count = 3;
    world->fingerprint = 0xf00d;
    world->train_samples = WORLD_SAMPLES;
    world->test_samples = 100;
    world->step_time_ms = 100;
    ck_assert_msg(store_open(":memory:", &world->store, &error) == LG_OK, "%s", error.message);
    open_core(world);
    coordinator_start(world->core, moment(world));
    commit(world);
    return world;
}

void world_free(struct world *world) {
    drop_letters(world);
    coordinator_free(world->core);
    store_close(world->store);
    wire_arena_free(world->arena);
    wire_arena_free(world->reply_arena);
    free(world);
}

static enum lg_status restore(void *context, enum store_table table, const void *row, struct lg_error *error) {
    return coordinator_restore(((struct world *)context)->core, table, row, error);
}

void world_restart(struct world *world) {
    struct lg_error error = {0};
    drop_letters(world);
    coordinator_free(world->core);
    open_core(world);
    ck_assert_msg(store_load(world->store, restore, world, &error) == LG_OK, "%s", error.message);
    coordinator_start(world->core, moment(world));
    commit(world);
}

/* ---- delivery */

static void to_core(struct world *world, const struct world_letter *letter) {
    struct wire_message message;
    letter_decode(letter, world->arena, &message);
    struct coordinator_input input = {moment(world), letter->route, &message};
    coordinator_receive(world->core, &input);
    commit(world);
}

static void deliver(struct world *world);

void world_send(struct world *world, uint64_t route, const struct wire_message *message) {
    if (by_chance(world, world->lose_percent))
        return;
    struct world_letter *letter = letter_new(route, message);
    to_core(world, letter);
    if (by_chance(world, world->repeat_percent))
        to_core(world, letter);
    letter_free(letter);
}

static void take_reply(struct world *world, const struct world_letter *letter) {
    letter_decode(letter, world->reply_arena, &world->reply);
    const char *reason = "", *name = "";
    switch (world->reply.kind) {
    case WIRE_SUBMIT_REPLY:
        reason = world->reply.submit_reply.reason;
        name = world->reply.submit_reply.name;
        world->warning_count = world->reply.submit_reply.warning_count;
        break;
    case WIRE_ACK:
        reason = world->reply.ack.reason;
        break;
    case WIRE_ERROR:
        reason = world->reply.error.reason;
        break;
    case WIRE_JOIN_REPLY:
        reason = world->reply.join_reply.reason;
        break;
    case WIRE_REGISTER_REPLY:
        reason = world->reply.register_reply.reason;
        break;
    case WIRE_LEASE_GRANT:
        reason = world->reply.lease_grant.reason;
        break;
    default:
        break;
    }
    snprintf(world->reply_text, sizeof world->reply_text, "%s", reason);
    snprintf(world->reply_name, sizeof world->reply_name, "%s", name);
    world->reply_count++;
}

static void to_peer(struct world *world, const struct world_letter *letter) {
    struct wire_message message;
    struct wire_arena *arena = wire_arena_new(ARENA_BYTES);
    letter_decode(letter, arena, &message);
    if (!world_server_receive(world, letter->route, &message) && !world_agent_receive(world, letter->route, &message) &&
        !world_trainer_receive(world, letter->route, &message) && letter->route < ROUTE_SERVER)
        take_reply(world, letter);
    wire_arena_free(arena);
}

static void deliver(struct world *world) {
    while (world->first) {
        struct world_letter *letter = world->first;
        world->first = letter->next;
        if (!world->first)
            world->last = NULL;
        bool to_test = letter->route < ROUTE_SERVER;
        if (to_test || !by_chance(world, world->lose_percent)) {
            to_peer(world, letter);
            if (!to_test && by_chance(world, world->repeat_percent))
                to_peer(world, letter);
        }
        letter_free(letter);
    }
}

void world_say(struct world *world, uint64_t route, const struct wire_message *message) {
    struct world_letter *letter = letter_new(route, message);
    to_core(world, letter);
    letter_free(letter);
    deliver(world);
}

/* ---- time */

void world_advance(struct world *world, int64_t ms) {
    for (int64_t end = world->now_ms + ms; world->now_ms < end;) {
        world->now_ms += WORLD_TICK_MS;
        world_members_tick(world);
        deliver(world);
        world_trainers_tick(world);
        deliver(world);
        if (world->now_ms % 100 == 0) {
            coordinator_tick(world->core, moment(world));
            commit(world);
            deliver(world);
        }
    }
}

void world_stop_coordinator(struct world *world, int64_t ms) {
    world->now_ms += ms; /* what the others send meanwhile waits in their sockets */
    coordinator_tick(world->core, moment(world));
    commit(world);
    deliver(world);
}

void world_until(struct world *world, const char *job, const char *state, int64_t ms) {
    int64_t end = world->now_ms + ms;
    while (strcmp(world_text(world, job, "state"), state) != 0) {
        if (world->now_ms >= end) {
            json_t *document = world_ask(world, "job", job);
            char *text = json_dumps(document, JSON_INDENT(1));
            ck_abort_msg("job \"%s\" is not %s after %lld ms: %s", job, state, (long long)ms, text);
        }
        world_advance(world, WORLD_TICK_MS);
    }
}

/* ---- what `lagoon` does */

uint64_t world_submit(struct world *world, const char *format, ...) {
    struct wire_pair pairs[32];
    struct wire_message message = {.kind = WIRE_SUBMIT, .request = ++world->next_request};
    char text[512], *rest = NULL;
    size_t count = 0;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *pair = strtok_r(text, ";", &rest); pair; pair = strtok_r(NULL, ";", &rest)) {
        char *equals = strchr(pair, '=');
        ck_assert_ptr_nonnull(equals);
        *equals = '\0';
        if (strcmp(pair, "init") == 0)
            message.submit.external_init = true;
        else
            pairs[count++] = (struct wire_pair){pair, equals + 1};
    }
    message.submit.spec = pairs;
    message.submit.spec_count = count;
    world_say(world, ROUTE_CLI, &message);
    ck_assert_int_eq(world->reply.kind, WIRE_SUBMIT_REPLY);
    return world->reply.submit_reply.job;
}

void world_cancel(struct world *world, const char *job) {
    struct wire_message message = {.kind = WIRE_CANCEL, .request = ++world->next_request};
    message.cancel = (struct wire_cancel){job, "the test wants it"};
    world_say(world, ROUTE_CLI, &message);
    ck_assert_int_eq(world->reply.kind, WIRE_ACK);
}

json_t *world_ask(struct world *world, const char *what, const char *job) {
    struct wire_query query = {.what = what, .job = job};
    struct lg_error error = {0};
    uint64_t next = 0;
    char *text = coordinator_query(world->core, &query, &next, &error);
    ck_assert_msg(text != NULL, "%s", error.message);
    json_t *document = json_loads(text, 0, NULL);
    ck_assert_msg(document != NULL, "no JSON: %s", text);
    free(text);
    return document;
}

const char *world_text(struct world *world, const char *job, const char *key) {
    static char text[512];
    json_t *document = world_ask(world, "job", job);
    const char *value = json_string_value(json_object_get(document, key));
    ck_assert_msg(value != NULL, "no text \"%s\" in the document of job \"%s\"", key, job);
    snprintf(text, sizeof text, "%s", value);
    json_decref(document);
    return text;
}

int64_t world_number(struct world *world, const char *job, const char *key) {
    json_t *document = world_ask(world, "job", job), *value = json_object_get(document, key);
    ck_assert_msg(json_is_number(value), "no number \"%s\" in the document of job \"%s\"", key, job);
    int64_t number = (int64_t)json_number_value(value);
    json_decref(document);
    return number;
}

bool world_history_has(struct world *world, const char *job, const char *text) {
    json_t *lines = world_ask(world, "history", job), *line;
    size_t i;
    bool found = false;
    json_array_foreach(lines, i, line) found =
        found || strstr(json_string_value(json_object_get(line, "text")), text) != NULL;
    json_decref(lines);
    return found;
}
