#include "server/payload.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct payload_codec *raw(void) {
    const struct payload_codec *codec = NULL;
    ck_assert_int_eq(payload_codec_find(WIRE_DTYPE_F32, 0, &codec, NULL), LG_OK);
    return codec;
}

START_TEST(unknown_codecs_are_refused) {
    const struct payload_codec *codec;
    struct lg_error error = {0};
    ck_assert_int_eq(payload_codec_find(WIRE_DTYPE_F32, 1, &codec, &error), LG_UNSUPPORTED);
    ck_assert_int_eq(payload_codec_find(WIRE_DTYPE_F16, 0, &codec, &error), LG_UNSUPPORTED);
}
END_TEST

START_TEST(every_nonfinite_value_is_found_anywhere) {
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    float data[67];
    for (size_t n = 0; n <= 67; n++) {
        for (size_t i = 0; i < 67; i++)
            data[i] = i % 3 == 0 ? FLT_MAX : i % 3 == 1 ? -FLT_MIN / 4 : 0;
        ck_assert(raw()->finite((const uint8_t *)data, n));
        for (size_t at = 0; at < n; at++) {
            float kept = data[at];
            data[at] = bad[(n + at) % 4];
            ck_assert(!raw()->finite((const uint8_t *)data, n));
            data[at] = kept;
        }
    }
}
END_TEST

START_TEST(aligned_payload_is_not_copied_and_unaligned_is) {
    float data[4] = {1, 2, 3, 4}, scratch[4];
    ck_assert_ptr_eq(raw()->decode((const uint8_t *)data, 1, 2, scratch), &data[1]);
    _Alignas(float) uint8_t bytes[sizeof data + 1];
    memcpy(bytes + 1, data, sizeof data);
    const float *decoded = raw()->decode(bytes + 1, 1, 3, scratch);
    ck_assert_ptr_eq(decoded, scratch);
    ck_assert(decoded[0] == 2 && decoded[2] == 4);
    ck_assert(raw()->finite(bytes + 1, 4));
}
END_TEST

static enum lg_status locate(const struct wire_bytes *frames, size_t count, const uint8_t **data, uint64_t *bytes) {
    static const struct wire_unit units[] = {
        {.unit = 3, .elements = 2}, {.unit = 9, .elements = 1}, {.unit = 11, .elements = 3}};
    const struct wire_message message = {
        .kind = WIRE_PUSH, .units = units, .unit_count = 3, .payload = frames, .payload_count = count};
    return payload_locate(&message, raw(), data, bytes, NULL);
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

int main(void) {
    Suite *suite = suite_create("payload");
    TCase *tests = tcase_create("payload");
    tcase_add_test(tests, unknown_codecs_are_refused);
    tcase_add_test(tests, every_nonfinite_value_is_found_anywhere);
    tcase_add_test(tests, aligned_payload_is_not_copied_and_unaligned_is);
    tcase_add_test(tests, units_are_found_in_their_frames);
    tcase_add_test(tests, broken_frames_are_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
