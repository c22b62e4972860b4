#include "server/payload.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static enum lg_status locate_as(const struct codec *codec, const struct wire_bytes *frames, size_t count,
                                const uint8_t **data, uint64_t *bytes, struct lg_error *error) {
    static const struct wire_unit units[] = {
        {.unit = 3, .elements = 2}, {.unit = 9, .elements = 1}, {.unit = 11, .elements = 3}};
    const struct wire_message message = {
        .kind = WIRE_PUSH, .units = units, .unit_count = 3, .payload = frames, .payload_count = count};
    return payload_locate(&message, codec, data, bytes, error);
}

static enum lg_status locate(const struct wire_bytes *frames, size_t count, const uint8_t **data, uint64_t *bytes) {
    return locate_as(codec_plain(), frames, count, data, bytes, NULL);
}

START_TEST(units_are_found_in_their_frames) {
    const float values[6] = {0};
    const uint8_t *base = (const uint8_t *)values, *data[3];
    uint64_t bytes = 0;
    ck_assert_int_eq(locate(&(struct wire_bytes){values, 24}, 1, data, &bytes), LG_OK);
    ck_assert_uint_eq(bytes, 24);
    ck_assert_ptr_eq(data[0], base);
    ck_assert_ptr_eq(data[1], base + 8);
    ck_assert_ptr_eq(data[2], base + 12);
    const struct wire_bytes split[] = {{values, 8}, {values + 2, 16}};
    ck_assert_int_eq(locate(split, 2, data, &bytes), LG_OK);
    ck_assert_ptr_eq(data[1], base + 8);
}
END_TEST

START_TEST(broken_frames_are_refused) {
    const float values[8] = {0};
    const uint8_t *data[3];
    uint64_t bytes;
    const struct wire_bytes torn[] = {{values, 12}, {values + 3, 8}, {values + 5, 4}};
    const struct wire_bytes more[] = {{values, 24}, {values, 4}};
    ck_assert_int_eq(locate(torn, 3, data, &bytes), LG_INVALID);
    ck_assert_int_eq(locate(more, 2, data, &bytes), LG_INVALID);
    ck_assert_int_eq(locate(&(struct wire_bytes){values, 20}, 1, data, &bytes), LG_INVALID);
    ck_assert_int_eq(locate(&(struct wire_bytes){values, 28}, 1, data, &bytes), LG_INVALID);
    ck_assert_int_eq(locate(NULL, 0, data, &bytes), LG_INVALID);
}
END_TEST

/* Three units of every codec, in one frame, in frames of their own, and cut at every other place. */
START_TEST(encoded_units_are_found_in_their_frames) {
    size_t count;
    const struct codec *codec = codecs(&count)[_i];
    const struct codec_options options = {.keep = 0.5};
    const float values[6] = {1, -2, 3, -4, 5, -6};
    const uint32_t elements[3] = {2, 1, 3};
    uint8_t bytes[256];
    const uint8_t *data[3];
    size_t starts[4] = {0}, at = 0;
    uint64_t total;
    struct lg_error error = {0};
    for (size_t i = 0; i < 3; at += elements[i++])
        starts[i + 1] = starts[i] + codec->kernels[isa_detect()]->encode(values + at, NULL, elements[i], &options,
                                                                         bytes + starts[i]);
    ck_assert_int_eq(locate_as(codec, &(struct wire_bytes){bytes, starts[3]}, 1, data, &total, &error), LG_OK);
    ck_assert_uint_eq(total, starts[3]);
    for (size_t i = 0; i < 3; i++)
        ck_assert_ptr_eq(data[i], bytes + starts[i]);
    for (size_t cut = 1; cut < starts[3]; cut++) {
        const struct wire_bytes split[] = {{bytes, cut}, {bytes + cut, starts[3] - cut}};
        bool whole = cut == starts[1] || cut == starts[2];
        enum lg_status status = locate_as(codec, split, 2, data, &total, &error);
        ck_assert_msg((status == LG_OK) == whole, "%s cut at %zu", codec->name, cut);
        ck_assert(whole || (status == LG_INVALID && error.message[0]));
    }
    ck_assert_int_eq(locate_as(codec, &(struct wire_bytes){bytes, starts[3] - 1}, 1, data, &total, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, codec->name));
    ck_assert_int_eq(locate_as(codec, &(struct wire_bytes){bytes, starts[3] + 1}, 1, data, &total, &error), LG_INVALID);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("payload");
    TCase *tests = tcase_create("payload");
    tcase_add_test(tests, units_are_found_in_their_frames);
    tcase_add_test(tests, broken_frames_are_refused);
    size_t count;
    codecs(&count);
    tcase_add_loop_test(tests, encoded_units_are_found_in_their_frames, 0, (int)count);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
