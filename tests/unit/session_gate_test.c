/* What a session asks before pulls and pushes, against scripted shards. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/session.h"

enum { SENT_MAX = 256, SLOTS = 2, TIMEOUT_MS = 2000 };
#define MS INT64_C(1000000)

struct sent {
    uint32_t slot;
    struct wire_message message;
};

static struct session *session;
static struct sent sent[SENT_MAX];
static size_t sent_count;
static unsigned reopened[SLOTS];
static int64_t now;
static float parameters[16], gradients[16];

static bool keep(void *context, uint32_t slot, const struct wire_message *message) {
    (void)context;
    ck_assert_uint_lt(sent_count, SENT_MAX);
    sent[sent_count++] = (struct sent){slot, *message};
    return true;
}

static void reopen(void *context, uint32_t slot, const char *why) {
    (void)context;
    (void)why;
    reopened[slot]++;
}

/* The last message of the kind to the slot that nobody has looked for yet, or NULL. */
static const struct wire_message *take(uint32_t slot, enum wire_kind kind) {
    for (size_t i = 0; i < sent_count; i++)
        if (sent[i].slot == slot && sent[i].message.kind == kind) {
            static struct wire_message taken;
            taken = sent[i].message;
            memmove(&sent[i], &sent[i + 1], (--sent_count - i) * sizeof *sent);
            return &taken;
        }
    return NULL;
}

static const struct wire_message *need(uint32_t slot, enum wire_kind kind) {
    const struct wire_message *message = take(slot, kind);
    ck_assert_msg(message, "no %s was sent to slot %u", wire_kind_name(kind), slot);
    return message;
}

static void greet(uint32_t slot) {
    session_connected(session, slot, now);
    const struct wire_message reply = {
        .kind = WIRE_HELLO_REPLY,
        .request = need(slot, WIRE_HELLO)->request,
        .hello_reply = {.window = 64, .credit_bytes = 1 << 20, .version = version_make(1, 5)}};
    session_receive(session, slot, &reply, now);
}

static void start(const char *mode) {
    static const struct tensor_spec tensors[] = {{.name = "a", .rank = 1, .shape = {4}, .lr_factor = 1},
                                                 {.name = "b", .rank = 1, .shape = {4}, .lr_factor = 1}};
    static const uint16_t placement[] = {1, 0}; /* unit 0, and so tickets, on slot 1 */
    const struct session_config config = {.session = 7,
                                          .job = 3,
                                          .map_version = 2,
                                          .incarnation = 1,
                                          .tensors = tensors,
                                          .tensor_count = 2,
                                          .placement = placement,
                                          .placement_count = 2,
                                          .shard_count = SLOTS,
                                          .window = 64,
                                          .mode = consistency_find(mode),
                                          .reply_timeout_ms = TIMEOUT_MS};
    const struct session_sink sink = {.send = keep, .reopen = reopen};
    struct lg_error error = {0};
    sent_count = 0;
    memset(reopened, 0, sizeof reopened);
    now = 1000 * MS;
    ck_assert_int_eq(session_new(&config, &sink, &session, &error), LG_OK);
    greet(0);
    greet(1);
}

static void teardown(void) {
    session_free(session);
    session = NULL;
}

static void answer(uint32_t slot, uint64_t tag, uint32_t status, uint64_t round) {
    const struct wire_message reply = {
        .kind = WIRE_GATE_REPLY, .request = tag, .gate_reply = {.tag = tag, .status = status, .round = round}};
    session_receive(session, slot, &reply, now);
}

/* Checks the question to the slot and returns its tag. */
static uint64_t asked(uint32_t slot, enum wire_gate_kind kind, uint64_t round) {
    const struct wire_message *gate = need(slot, WIRE_GATE);
    ck_assert_int_eq(gate->gate.kind, kind);
    ck_assert_uint_eq(gate->gate.round, round);
    ck_assert(gate->gate.session == 7 && gate->gate.job == 3 && gate->gate.map_version == 2);
    return gate->gate.tag;
}

static void pull(void) {
    ck_assert_int_eq(session_pull_open(session, parameters, now, NULL), LG_OK);
}

/* Answers the slot's PULL. */
static void give(uint32_t slot) {
    const struct wire_message *asks = need(slot, WIRE_PULL);
    static const float values[4];
    const struct wire_bytes payload = {values, sizeof values};
    struct wire_unit unit = {1 - slot, 4, 9};
    const struct wire_message reply = {.kind = WIRE_PULL_REPLY,
                                       .request = asks->request,
                                       .pull_reply = {.tag = asks->pull.tag, .version = version_make(1, 6)},
                                       .units = &unit,
                                       .unit_count = 1,
                                       .payload = &payload,
                                       .payload_count = 1};
    session_receive(session, slot, &reply, now);
}

static void read_in(uint64_t least, uint64_t round) {
    pull();
    answer(0, asked(0, WIRE_GATE_KIND_READ, least), LG_OK, round);
    answer(1, asked(1, WIRE_GATE_KIND_READ, least), LG_OK, round);
    give(0);
    give(1);
    ck_assert_int_eq(session_pull_poll(session, NULL), LG_OK);
}

static uint64_t push(void) {
    static uint64_t clock;
    uint64_t ticket = 0;
    struct lg_error error = {0};
    clock++;
    const struct session_push spec = {.clock = clock, .samples = 4, .local_steps = 1, .gradients = gradients};
    ck_assert_msg(session_push_open(session, &spec, now, &ticket, &error) == LG_OK, "%s", error.message);
    session_push_ready(session, 0, 2, now);
    return ticket;
}

static void settle(uint32_t slot, uint32_t status) {
    const struct wire_message *part = need(slot, WIRE_PUSH);
    const struct wire_message reply = {.kind = WIRE_PUSH_REPLY,
                                       .request = part->request,
                                       .push_reply = {.seq = part->push.seq, .status = status, .weight = 1}};
    session_receive(session, slot, &reply, now);
}

START_TEST(pulls_wait_for_reads) {
    start("ssp");
    pull();
    uint64_t first = asked(0, WIRE_GATE_KIND_READ, 0), second = asked(1, WIRE_GATE_KIND_READ, 0);
    ck_assert_uint_ne(first, second);
    answer(0, first, LG_OK, 0);
    ck_assert_ptr_null(take(0, WIRE_PULL));
    ck_assert(session_parked(session));
    answer(1, second, LG_OK, 0);
    ck_assert(!session_parked(session));
    give(0);
    give(1);
    ck_assert_int_eq(session_pull_poll(session, NULL), LG_OK);
}
END_TEST

START_TEST(async_asks_nothing) {
    start("async");
    pull();
    give(0);
    give(1);
    push();
    session_rest(session, true, now);
    ck_assert(session_at_rest(session));
    ck_assert_ptr_null(take(0, WIRE_GATE));
    ck_assert_ptr_null(take(1, WIRE_GATE));
}
END_TEST

START_TEST(a_read_waits_for_the_pushes_before_it) {
    start("ssp");
    read_in(0, 0);
    push();
    pull();
    ck_assert_ptr_null(take(0, WIRE_GATE));
    settle(0, LG_OK);
    asked(0, WIRE_GATE_KIND_READ, 0); /* each shard for itself */
    ck_assert_ptr_null(take(1, WIRE_GATE));
    settle(1, LG_OK);
    asked(1, WIRE_GATE_KIND_READ, 0);
}
END_TEST

START_TEST(shards_that_are_behind_are_asked_again) {
    start("bsp");
    pull();
    answer(0, asked(0, WIRE_GATE_KIND_READ, 0), LG_OK, 7);
    answer(1, asked(1, WIRE_GATE_KIND_READ, 0), LG_OK, 5);
    ck_assert_ptr_null(take(0, WIRE_PULL));
    ck_assert_ptr_null(take(0, WIRE_GATE));
    answer(1, asked(1, WIRE_GATE_KIND_READ, 7), LG_OK, 8); /* meanwhile */
    answer(0, asked(0, WIRE_GATE_KIND_READ, 8), LG_OK, 8);
    give(0);
    give(1);
    push();
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        ck_assert_uint_eq(sent[slot].message.push.round, 8);
        settle(slot, LG_OK);
    }
    pull();
    asked(0, WIRE_GATE_KIND_READ, 9);
}
END_TEST

START_TEST(a_push_needs_a_pull_before_it) {
    start("bsp");
    struct lg_error error = {0};
    uint64_t ticket;
    struct session_push spec = {.clock = 900, .samples = 4, .local_steps = 1, .gradients = gradients};
    ck_assert_int_eq(session_push_open(session, &spec, now, &ticket, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "every push needs a pull before it"));
    read_in(0, 0);
    spec.parameters = parameters;
    ck_assert_int_eq(session_push_open(session, &spec, now, &ticket, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "brings no parameters"));
    push();
    settle(0, LG_OK);
    settle(1, LG_OK);
    spec.parameters = NULL;
    ck_assert_int_eq(session_push_open(session, &spec, now, &ticket, &error), LG_INVALID);
    spec.kind = WIRE_PUSH_KIND_INITIAL; /* belongs to no round */
    ck_assert_int_eq(session_push_open(session, &spec, now, &ticket, &error), LG_OK);
}
END_TEST

START_TEST(a_push_waits_for_its_ticket) {
    start("backup");
    read_in(0, 3);
    uint64_t ticket = push();
    ck_assert_ptr_null(take(0, WIRE_PUSH));
    ck_assert_ptr_null(take(0, WIRE_GATE));
    answer(1, asked(1, WIRE_GATE_KIND_TICKET, 3), LG_OK, 3);
    ck_assert_uint_eq(sent[0].message.push.round, 3);
    ck_assert_uint_gt(sent[0].message.payload_count, 0);
    settle(0, LG_OK);
    settle(1, LG_OK);
    struct session_push_result result;
    ck_assert_int_eq(session_push_poll(session, ticket, &result, NULL), LG_OK);
    ck_assert(!result.skipped);
    pull();
    asked(0, WIRE_GATE_KIND_READ, 4);
}
END_TEST

START_TEST(without_a_ticket_the_samples_are_told) {
    static const char *const modes[] = {"backup", "rennala"};
    for (int i = 0; i < 2; i++) {
        start(modes[i]);
        read_in(0, 3);
        uint64_t ticket = push();
        answer(1, asked(1, WIRE_GATE_KIND_TICKET, 3), LG_DROPPED, 3);
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            ck_assert_int_eq(sent[0].message.push.kind, WIRE_PUSH_KIND_SKIPPED);
            ck_assert_uint_eq(sent[0].message.payload_count, 0);
            ck_assert_uint_eq(sent[0].message.push.samples, 4);
            settle(sent[0].slot, LG_DROPPED);
        }
        struct session_push_result result;
        ck_assert_int_eq(session_push_poll(session, ticket, &result, NULL), LG_OK);
        ck_assert(result.skipped && result.dropped);
        pull();
        asked(0, WIRE_GATE_KIND_READ, 4);
        teardown();
    }
}
END_TEST

START_TEST(in_rennala_the_next_push_may_be_for_the_same_round) {
    start("rennala");
    read_in(0, 3);
    push();
    answer(1, asked(1, WIRE_GATE_KIND_TICKET, 3), LG_OK, 3);
    settle(0, LG_OK);
    settle(1, LG_OK);
    pull();
    asked(0, WIRE_GATE_KIND_READ, 3);
}
END_TEST

START_TEST(at_rest_pulls_are_not_held_up) {
    start("bsp");
    read_in(0, 2);
    push();
    session_rest(session, true, now);
    ck_assert_ptr_null(take(0, WIRE_GATE)); /* its pushes first */
    settle(0, LG_OK);
    settle(1, LG_OK);
    uint64_t first = asked(0, WIRE_GATE_KIND_REST, 3), second = asked(1, WIRE_GATE_KIND_REST, 3);
    pull();
    answer(0, first, LG_OK, 3);
    ck_assert(!session_at_rest(session));
    ck_assert_ptr_null(take(0, WIRE_PULL)); /* nobody reads before what it pushed is applied */
    answer(1, second, LG_OK, 4);            /* rests agree on nothing */
    ck_assert(session_at_rest(session));
    give(0);
    give(1);
    session_rest(session, false, now); /* known already */
    ck_assert_ptr_null(take(0, WIRE_GATE));
    pull();
    ck_assert_ptr_nonnull(take(0, WIRE_PULL));
    ck_assert_ptr_nonnull(take(1, WIRE_PULL));
    session_pull_cancel(session);
    session_work(session);
    pull();
    asked(0, WIRE_GATE_KIND_READ, 3);
}
END_TEST

START_TEST(buffered_rests_and_reads_without_asking) {
    start("buffered");
    pull();
    give(0);
    give(1);
    session_rest(session, true, now);
    asked(0, WIRE_GATE_KIND_REST, 0);
    session_work(session);
    pull(); /* the question is still out */
    ck_assert_ptr_null(take(0, WIRE_PULL));
}
END_TEST

START_TEST(questions_keep_their_tag_over_lost_connections) {
    start("bsp");
    pull();
    uint64_t tag = asked(0, WIRE_GATE_KIND_READ, 0);
    asked(1, WIRE_GATE_KIND_READ, 0);
    session_disconnected(session, 0, now);
    greet(0);
    ck_assert_uint_eq(asked(0, WIRE_GATE_KIND_READ, 0), tag);
    answer(0, tag, LG_OK, 0);
    answer(0, tag, LG_OK, 9); /* twice: the second is of no interest */
    answer(0, tag + 1, LG_OK, 9);
    ck_assert_ptr_null(take(0, WIRE_GATE));
}
END_TEST

START_TEST(a_long_wait_is_asked_about_and_silence_is_not_borne) {
    start("bsp");
    pull();
    uint64_t tag = asked(0, WIRE_GATE_KIND_READ, 0);
    answer(1, asked(1, WIRE_GATE_KIND_READ, 0), LG_OK, 0);
    for (int i = 0; i < 3; i++) { /* the shard says each time that it is still parked */
        ck_assert_int_eq(session_next_tick_ns(session, now), TIMEOUT_MS * MS);
        now += TIMEOUT_MS * MS;
        session_tick(session, now);
        ck_assert_uint_eq(asked(0, WIRE_GATE_KIND_READ, 0), tag);
        uint64_t progress = session_progress(session);
        answer(0, tag, LG_UNAVAILABLE, 0);
        ck_assert_uint_gt(session_progress(session), progress);
    }
    char text[120];
    session_describe(session, now, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "waiting for other workers"));
    ck_assert_uint_eq(reopened[0], 0);
    now += TIMEOUT_MS * MS;
    session_tick(session, now);
    ck_assert_uint_eq(asked(0, WIRE_GATE_KIND_READ, 0), tag);
    now += TIMEOUT_MS * MS; /* nothing */
    session_tick(session, now);
    ck_assert_uint_eq(reopened[0], 1);
    greet(0);
    ck_assert_uint_eq(asked(0, WIRE_GATE_KIND_READ, 0), tag);
    answer(0, tag, LG_OK, 0);
    give(0);
    give(1);
}
END_TEST

START_TEST(refusals_are_told_apart) {
    static const struct {
        uint32_t status;
        enum { AGAIN_SAME, AGAIN_NEW, OVER } then;
    } cases[] = {{LG_UNAVAILABLE, AGAIN_SAME}, {LG_STALE, AGAIN_NEW}, {LG_INVALID, OVER}, {LG_FENCED, OVER}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        start("bsp");
        pull();
        uint64_t tag = asked(0, WIRE_GATE_KIND_READ, 0);
        const struct wire_message refusal = {
            .kind = WIRE_ERROR, .request = tag, .error = {.status = cases[i].status, .reason = "no", .seq = tag}};
        session_receive(session, 0, &refusal, now);
        ck_assert_int_eq(session_status(session, NULL) != LG_OK, cases[i].then == OVER);
        if (cases[i].then != OVER) {
            now += 200 * MS;
            session_tick(session, now);
            ck_assert_int_eq(asked(0, WIRE_GATE_KIND_READ, 0) == tag, cases[i].then == AGAIN_SAME);
        }
        teardown();
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("session gate");
    TCase *tests = tcase_create("gates");
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, pulls_wait_for_reads);
    tcase_add_test(tests, async_asks_nothing);
    tcase_add_test(tests, a_read_waits_for_the_pushes_before_it);
    tcase_add_test(tests, shards_that_are_behind_are_asked_again);
    tcase_add_test(tests, a_push_needs_a_pull_before_it);
    tcase_add_test(tests, a_push_waits_for_its_ticket);
    tcase_add_test(tests, without_a_ticket_the_samples_are_told);
    tcase_add_test(tests, in_rennala_the_next_push_may_be_for_the_same_round);
    tcase_add_test(tests, at_rest_pulls_are_not_held_up);
    tcase_add_test(tests, buffered_rests_and_reads_without_asking);
    tcase_add_test(tests, questions_keep_their_tag_over_lost_connections);
    tcase_add_test(tests, a_long_wait_is_asked_about_and_silence_is_not_borne);
    tcase_add_test(tests, refusals_are_told_apart);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
