#include "server/snapshot.h"

#include <check.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/block.h"

static float values[BLOCK_ELEMENTS];

START_TEST(a_snapshot_is_a_copy_that_stays) {
    struct snapshot_pool *pool = snapshot_pool_new(1 << 20);
    values[0] = 1;
    struct snapshot *first = snapshot_take(pool, values, 100, 5);
    values[0] = 2;
    ck_assert(first->data[0] == 1);
    ck_assert_uint_eq(first->elements, 100);
    ck_assert_uint_eq(first->version, 5);
    snapshot_retain(first);
    snapshot_release(first);
    struct snapshot *second = snapshot_take(pool, values, 100, 6);
    ck_assert_ptr_ne(second, first); /* still held */
    ck_assert(first->data[0] == 1);
    snapshot_release(first);
    snapshot_release(second);
    snapshot_pool_free(pool);
}
END_TEST

START_TEST(returned_buffers_are_used_again) {
    struct snapshot_pool *pool = snapshot_pool_new(1 << 20);
    struct snapshot *first = snapshot_take(pool, values, BLOCK_ELEMENTS, 1);
    const float *data = first->data;
    snapshot_release(first);
    struct snapshot *second = snapshot_take(pool, values, BLOCK_ELEMENTS - 1, 2);
    ck_assert_ptr_eq(second->data, data);
    struct snapshot *small = snapshot_take(pool, values, 1, 3);
    ck_assert_ptr_ne(small->data, data);
    snapshot_release(second);
    snapshot_release(small);
    snapshot_pool_free(pool);
}
END_TEST

START_TEST(the_last_holder_may_outlive_the_pool) {
    struct snapshot_pool *pool = snapshot_pool_new(1 << 20);
    struct snapshot *first = snapshot_take(pool, values, 10, 1);
    struct snapshot *second = snapshot_take(pool, values, 10, 2);
    snapshot_pool_free(pool);
    ck_assert_uint_eq(first->version, 1);
    snapshot_release(first);
    snapshot_release(second); /* frees the pool: a sanitizer sees a leak or a use after it otherwise */
}
END_TEST

enum { THREADS = 3, ROUNDS = 2000 };

struct mail {
    pthread_mutex_t mutex;
    struct snapshot *waiting[64];
    size_t count;
    bool done;
};

static void *releaser(void *argument) {
    struct mail *mail = argument;
    for (bool done = false; !done;) {
        struct snapshot *taken = NULL;
        pthread_mutex_lock(&mail->mutex);
        if (mail->count > 0)
            taken = mail->waiting[--mail->count];
        done = !taken && mail->done;
        pthread_mutex_unlock(&mail->mutex);
        if (taken)
            snapshot_release(taken);
    }
    return NULL;
}

START_TEST(other_threads_release_while_the_owner_takes) {
    struct snapshot_pool *pool = snapshot_pool_new(4096);
    struct mail mail = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, releaser, &mail), 0);
    for (uint64_t round = 0; round < ROUNDS;) {
        struct snapshot *snapshot = snapshot_take(pool, values, 100, round);
        ck_assert_uint_eq(snapshot->version, round);
        pthread_mutex_lock(&mail.mutex);
        bool room = mail.count < 64;
        if (room)
            mail.waiting[mail.count++] = snapshot;
        pthread_mutex_unlock(&mail.mutex);
        if (room)
            round++;
        else
            snapshot_release(snapshot);
    }
    snapshot_pool_free(pool); /* while some are still out */
    pthread_mutex_lock(&mail.mutex);
    mail.done = true;
    pthread_mutex_unlock(&mail.mutex);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("snapshot");
    TCase *tests = tcase_create("snapshot");
    tcase_add_test(tests, a_snapshot_is_a_copy_that_stays);
    tcase_add_test(tests, returned_buffers_are_used_again);
    tcase_add_test(tests, the_last_holder_may_outlive_the_pool);
    tcase_add_test(tests, other_threads_release_while_the_owner_takes);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
