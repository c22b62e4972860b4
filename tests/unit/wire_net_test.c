/* How messages become frames: what is copied, what is gathered, and that every loan comes back. */
#include "proto/wire_net.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 1000, LARGE = WIRE_NET_LEND_BYTES, FRAMES = 6 };

static struct net_message out;
static struct wire_arena *arena;
static unsigned lent[FRAMES], given_back[FRAMES];
static char memory[FRAMES][LARGE];

static void setup(void) {
    arena = wire_arena_new(1 << 20);
    memset(lent, 0, sizeof lent);
    memset(given_back, 0, sizeof given_back);
    for (size_t i = 0; i < FRAMES; i++)
        memset(memory[i], (int)i + 1, LARGE);
}

static void teardown(void) {
    net_message_clear(&out);
    wire_arena_free(arena);
}

static void *lend(void *context, size_t at) {
    ck_assert_ptr_eq(context, memory);
    lent[at]++;
    return &given_back[at];
}

static void give_back(void *data, void *hint) {
    unsigned *count = hint;
    ck_assert_ptr_eq(data, memory[count - given_back]);
    ++*count;
}

static const struct wire_net_lender lender = {memory, lend, give_back};

/* A push of units with the given payload sizes, one frame each. */
static struct wire_message push_of(const size_t sizes[FRAMES], struct wire_unit *units, struct wire_bytes *payload) {
    static const struct wire_cover cover = {.session = 1, .incarnation = 1, .seq = 1, .samples = 1};
    for (uint32_t i = 0; i < FRAMES; i++) {
        units[i] = (struct wire_unit){.unit = i, .elements = (uint32_t)(sizes[i] / sizeof(float))};
        payload[i] = (struct wire_bytes){memory[i], sizes[i]};
    }
    return (struct wire_message){.kind = WIRE_PUSH,
                                 .request = 1,
                                 .push = {.session = 1,
                                          .incarnation = 1,
                                          .seq = 1,
                                          .job = 1,
                                          .part_count = 1,
                                          .samples = 1,
                                          .local_steps = 1,
                                          .covers = &cover,
                                          .cover_count = 1},
                                 .units = units,
                                 .unit_count = FRAMES,
                                 .payload = payload,
                                 .payload_count = FRAMES};
}

/* The values of all units, one behind the other. */
static void check_payload(const struct wire_message *message, const size_t sizes[FRAMES]) {
    size_t frame = 0, at = 0;
    for (size_t i = 0; i < FRAMES; i++) {
        if (at == message->payload[frame].bytes) {
            frame++;
            at = 0;
        }
        ck_assert_int_eq(memcmp((const char *)message->payload[frame].data + at, memory[i], sizes[i]), 0);
        at += sizes[i];
    }
    ck_assert_uint_eq(frame + 1, message->payload_count);
    ck_assert_uint_eq(at, message->payload[frame].bytes);
}

START_TEST(small_neighbours_share_a_frame_and_large_ones_are_lent) {
    const size_t sizes[FRAMES] = {SMALL, SMALL, LARGE, SMALL, LARGE, LARGE};
    struct wire_unit units[FRAMES];
    struct wire_bytes payload[FRAMES];
    struct wire_message message = push_of(sizes, units, payload), back;
    struct lg_error error = {0};
    ck_assert_int_eq(wire_net_add_lent(&message, &lender, &out), LG_OK);
    ck_assert_uint_eq(out.count, 2 + 5);
    ck_assert_uint_eq(net_frame_bytes(&out, 2), 2 * SMALL);
    ck_assert_ptr_eq(net_frame_data(&out, 3), memory[2]);
    ck_assert_ptr_ne(net_frame_data(&out, 4), memory[3]);
    ck_assert_msg(wire_net_decode(&out, 0, arena, &back, &error) == LG_OK, "%s", error.message);
    check_payload(&back, sizes);
    for (size_t i = 0; i < FRAMES; i++) {
        ck_assert_uint_eq(lent[i], sizes[i] == LARGE);
        ck_assert_uint_eq(given_back[i], 0);
    }
    net_message_clear(&out);
    for (size_t i = 0; i < FRAMES; i++)
        ck_assert_uint_eq(given_back[i], lent[i]);
}
END_TEST

START_TEST(a_message_that_is_full_gives_back_what_it_could_not_take) {
    const size_t sizes[FRAMES] = {LARGE, LARGE, LARGE, LARGE, LARGE, LARGE};
    struct wire_unit units[FRAMES];
    struct wire_bytes payload[FRAMES];
    struct wire_message message = push_of(sizes, units, payload);
    while (out.count < NET_FRAMES_MAX - 4)
        ck_assert_int_eq(net_message_add(&out, "", 0), LG_OK);
    ck_assert_int_eq(wire_net_add_lent(&message, &lender, &out), LG_NO_MEMORY);
    net_message_clear(&out);
    for (size_t i = 0; i < FRAMES; i++) {
        ck_assert_uint_eq(lent[i], i < 3);
        ck_assert_uint_eq(given_back[i], lent[i]);
    }
}
END_TEST

START_TEST(without_a_lender_everything_is_copied) {
    const size_t sizes[FRAMES] = {SMALL, LARGE, SMALL, SMALL, LARGE, SMALL};
    struct wire_unit units[FRAMES];
    struct wire_bytes payload[FRAMES];
    struct wire_message message = push_of(sizes, units, payload), back;
    struct lg_error error = {0};
    ck_assert_int_eq(wire_net_add(&message, &out), LG_OK);
    for (size_t i = 0; i < FRAMES; i++)
        ck_assert_ptr_ne(net_frame_data(&out, 2 + i), memory[i]);
    ck_assert_msg(wire_net_decode(&out, 0, arena, &back, &error) == LG_OK, "%s", error.message);
    check_payload(&back, sizes);
}
END_TEST

START_TEST(messages_without_payload_need_no_loan) {
    struct wire_message message = {.kind = WIRE_ACK, .request = 7, .ack = {.status = LG_OK, .reason = ""}}, back;
    struct lg_error error = {0};
    ck_assert_int_eq(wire_net_add_lent(&message, &lender, &out), LG_OK);
    ck_assert_uint_eq(out.count, 1);
    ck_assert_msg(wire_net_decode(&out, 0, arena, &back, &error) == LG_OK, "%s", error.message);
    ck_assert_int_eq(back.kind, WIRE_ACK);
    ck_assert_uint_eq(back.request, 7);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("wire_net");
    TCase *tests = tcase_create("frames");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, small_neighbours_share_a_frame_and_large_ones_are_lent);
    tcase_add_test(tests, a_message_that_is_full_gives_back_what_it_could_not_take);
    tcase_add_test(tests, without_a_lender_everything_is_copied);
    tcase_add_test(tests, messages_without_payload_need_no_loan);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
