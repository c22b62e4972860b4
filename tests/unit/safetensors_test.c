#include "common/safetensors.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct tensor_spec specs[2] = {
    {.name = "layer.weight", .rank = 2, .shape = {2, 3}, .lr_factor = 1},
    {.name = "layer.bias", .rank = 1, .shape = {3}, .lr_factor = 1},
};
static const float values[9] = {1, -2, 3.5f, 4, 5, 6, 7, 8, 1e-30f};
static char path[64];

static void setup(void) {
    snprintf(path, sizeof path, "/tmp/safetensors-test-%d", (int)getpid());
}

static void teardown(void) {
    remove(path);
}

static void write_bytes(const char *header, size_t data_bytes) {
    FILE *file = fopen(path, "wb");
    uint64_t size = strlen(header);
    char data[64] = {0};
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(&size, 8, 1, file), 1);
    ck_assert_uint_eq(fwrite(header, 1, size, file), size);
    ck_assert_uint_eq(fwrite(data, 1, data_bytes, file), data_bytes);
    fclose(file);
}

static void refuse(const char *header, size_t data_bytes, const char *word) {
    float out[9];
    struct lg_error error = {0};
    write_bytes(header, data_bytes);
    ck_assert_int_ne(safetensors_read(path, specs, 2, out, &error), LG_OK);
    ck_assert_msg(strstr(error.message, word) && strstr(error.message, path), "%s", error.message);
}

START_TEST(what_is_written_is_read) {
    float out[9] = {0};
    struct lg_error error = {0};
    const struct safetensors_note note = {"format", "pt"};
    ck_assert_int_eq(safetensors_write(path, specs, 2, values, &note, 1, &error), LG_OK);
    ck_assert_int_eq(safetensors_read(path, specs, 2, out, &error), LG_OK);
    ck_assert_mem_eq(out, values, sizeof values);
}
END_TEST

START_TEST(layout_is_that_of_the_format) {
    char text[512];
    uint64_t size;
    ck_assert_int_eq(safetensors_write(path, specs, 2, values, NULL, 0, NULL), LG_OK);
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fread(&size, 8, 1, file), 1);
    ck_assert_uint_lt(size, sizeof text);
    ck_assert_uint_eq(fread(text, 1, size, file), size);
    text[size] = '\0';
    ck_assert_uint_eq(size % 8, 0);
    ck_assert_ptr_nonnull(strstr(text, "\"layer.bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[24,36]}"));
    float first;
    ck_assert_uint_eq(fread(&first, 4, 1, file), 1);
    ck_assert(first == 1);
    fseek(file, 0, SEEK_END);
    ck_assert_int_eq(ftell(file), (long)(8 + size + sizeof values));
    fclose(file);
}
END_TEST

#define WEIGHT "\"layer.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"
#define BIAS "\"layer.bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[24,36]}"

START_TEST(files_that_lie_are_refused) {
    refuse("{" WEIGHT "}", 36, "layer.bias");
    refuse("{" WEIGHT "," BIAS ",\"extra\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[36,36]}}", 36, "extra");
    refuse("{\"layer.weight\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[0,24]}," BIAS "}", 36,
           "layer.weight");
    refuse("{\"layer.weight\":{\"dtype\":\"F32\",\"shape\":[3,2],\"data_offsets\":[0,24]}," BIAS "}", 36, "2x3");
    refuse("{" WEIGHT "," BIAS "}", 30, "layer.bias");
    refuse("{\"layer.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[-24,0]}," BIAS "}", 36, "offsets");
    refuse("not json", 36, "JSON");
}
END_TEST

START_TEST(a_header_longer_than_the_file_is_refused) {
    struct lg_error error = {0};
    float out[9];
    uint64_t size = UINT64_C(8) << 30;
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(&size, 8, 1, file), 1);
    fclose(file);
    ck_assert_int_eq(safetensors_read(path, specs, 2, out, &error), LG_MALFORMED);
}
END_TEST

START_TEST(a_folder_that_is_not_there) {
    struct lg_error error = {0};
    ck_assert_int_eq(safetensors_write("/nowhere/model", specs, 2, values, NULL, 0, &error), LG_IO);
    ck_assert_ptr_nonnull(strstr(error.message, "/nowhere/model"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("safetensors");
    TCase *tests = tcase_create("files");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_is_written_is_read);
    tcase_add_test(tests, layout_is_that_of_the_format);
    tcase_add_test(tests, files_that_lie_are_refused);
    tcase_add_test(tests, a_header_longer_than_the_file_is_refused);
    tcase_add_test(tests, a_folder_that_is_not_there);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
