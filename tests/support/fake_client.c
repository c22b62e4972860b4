#include "tests/support/fake_client.h"

#include <check.h>
#include <string.h>
#include <time.h>

enum { WAIT_MS = 20000 };

void must(enum lg_status status, const struct lg_error *error) {
    ck_assert_msg(status == LG_OK, "%s: %s", lg_status_name(status), error->message);
}

struct lg_client_options fake_client_options(const struct fake_cluster *cluster) {
    struct lg_client_options options = {.coordinator = fake_address(cluster),
                                        .job = "fake",
                                        .role = LG_ROLE_TRAINER,
                                        .trainer = 4,
                                        .token = 5,
                                        .dataset_fingerprint = 6,
                                        .train_samples = 1000,
                                        .test_samples = 10,
                                        .batch = 4,
                                        .device = "cpu",
                                        .timeout_ms = WAIT_MS};
    options.tensors = fake_tensors(&options.tensor_count);
    return options;
}

struct lg_client *fake_client_open(const struct lg_client_options *options) {
    struct lg_client *client = NULL;
    struct lg_error error = {0};
    must(lg_client_open(options, &client, &error), &error);
    return client;
}

void fake_client_await_transport(const struct lg_client *client, const char *wanted) {
    for (int i = 0; i < WAIT_MS && strcmp(lg_client_transport(client), wanted) != 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    ck_assert_str_eq(lg_client_transport(client), wanted);
}
