/* Clients of a fake cluster's job. What fails ends the test. */
#ifndef LAGOON_TESTS_SUPPORT_FAKE_CLIENT_H
#define LAGOON_TESTS_SUPPORT_FAKE_CLIENT_H

#include "client/lagoon.h"
#include "tests/support/fake_cluster.h"

void must(enum lg_status status, const struct lg_error *error);

/* Of a trainer, with the job's tensors. */
struct lg_client_options fake_client_options(const struct fake_cluster *cluster);
struct lg_client *fake_client_open(const struct lg_client_options *options);
/* Waits for the way its bytes travel to be `wanted`, 20 seconds at most. */
void fake_client_await_transport(const struct lg_client *client, const char *wanted);

#endif
