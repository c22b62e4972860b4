#include "worker/trainer_clip.h"

#include <check.h>
#include <stdlib.h>

START_TEST(names) {
    ck_assert_int_eq(clip_parse("none"), CLIP_NONE);
    ck_assert_int_eq(clip_parse("tensor"), CLIP_TENSOR);
    ck_assert_int_eq(clip_parse("global"), CLIP_GLOBAL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer_clip");
    TCase *tests = tcase_create("trainer_clip");
    tcase_add_test(tests, names);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
