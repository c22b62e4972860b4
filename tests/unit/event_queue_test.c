#include "sim/event_queue.h"

#include <check.h>
#include <stdlib.h>

#include "common/random.h"

START_TEST(events_come_by_time) {
    struct event_queue queue = {0};
    struct event event;
    struct random random;
    int64_t last = -1;
    random_init(&random, 7);
    for (uint32_t i = 0; i < 5000; i++)
        ck_assert(event_queue_push(&queue, (struct event){.at_ns = (int64_t)random_below(&random, 1000)}));
    for (uint32_t i = 0; i < 5000; i++) {
        ck_assert(event_queue_pop(&queue, &event));
        ck_assert_int_ge(event.at_ns, last);
        last = event.at_ns;
    }
    ck_assert(!event_queue_pop(&queue, &event));
    event_queue_deinit(&queue);
}
END_TEST

START_TEST(events_of_the_same_time_come_first_in_first_out) {
    struct event_queue queue = {0};
    struct event event;
    for (uint32_t i = 0; i < 1000; i++)
        ck_assert(event_queue_push(&queue, (struct event){.at_ns = i % 3, .worker = i}));
    for (uint32_t at = 0; at < 3; at++)
        for (uint32_t i = at; i < 1000; i += 3) {
            ck_assert(event_queue_pop(&queue, &event));
            ck_assert_int_eq(event.at_ns, at);
            ck_assert_uint_eq(event.worker, i);
        }
    event_queue_deinit(&queue);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("event_queue");
    TCase *tests = tcase_create("event_queue");
    tcase_add_test(tests, events_come_by_time);
    tcase_add_test(tests, events_of_the_same_time_come_first_in_first_out);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
