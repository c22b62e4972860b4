#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/net.h"

static const struct {
    const char *text;
    bool bind;
    const char *endpoint; /* NULL: refused */
} cases[] = {
    {"127.0.0.1:7800", false, "tcp://127.0.0.1:7800"},
    {"tcp://host-1.example:1", false, "tcp://host-1.example:1"},
    {"[::1]:80", false, "tcp://[::1]:80"},
    {"tcp://[2001:db8::2]:65535", false, "tcp://[2001:db8::2]:65535"},
    {"localhost:0", true, "tcp://127.0.0.1:0"},
    {"localhost:9", false, "tcp://localhost:9"},
    {"0.0.0.0:5", true, "tcp://0.0.0.0:5"},
    {"*:5", true, "tcp://*:5"},
    {"*:5", false, NULL},
    {"0.0.0.0:5", false, NULL},
    {"[::]:5", false, NULL},
    {"127.0.0.1:0", false, NULL},
    {"127.0.0.1", false, NULL},
    {"127.0.0.1:", false, NULL},
    {"127.0.0.1:x", false, NULL},
    {"127.0.0.1:65536", false, NULL},
    {"127.0.0.1:80x", false, NULL},
    {":80", true, NULL},
    {"", true, NULL},
    {"::1:80", false, NULL},
    {"[::1:80", false, NULL},
    {"[zz]:80", false, NULL},
    {"[::1]80", false, NULL},
    {"ipc:///tmp/x", false, "ipc:///tmp/x"},
    {"ipc:///tmp/x", true, "ipc:///tmp/x"},
    {"ipc://x", true, NULL},
    {"ipc:///", true, NULL},
    {"inproc://x", true, NULL},
    {"ho st:80", false, NULL},
};

START_TEST(parses_addresses) {
    char endpoint[NET_ENDPOINT_BYTES];
    struct lg_error error;
    enum lg_status status = net_endpoint_parse(cases[_i].text, cases[_i].bind, endpoint, &error);
    if (!cases[_i].endpoint) {
        ck_assert_int_eq(status, LG_INVALID);
        ck_assert_ptr_nonnull(strstr(error.message, "expected host:port"));
        return;
    }
    ck_assert_msg(status == LG_OK, "%s", error.message);
    ck_assert_str_eq(endpoint, cases[_i].endpoint);
}
END_TEST

START_TEST(refuses_a_long_host) {
    char text[600], endpoint[NET_ENDPOINT_BYTES];
    memset(text, 'a', sizeof text);
    memcpy(text + 500, ":80", sizeof ":80");
    ck_assert_int_eq(net_endpoint_parse(text, false, endpoint, NULL), LG_INVALID);
}
END_TEST

START_TEST(splits_endpoints) {
    char host[NET_ENDPOINT_BYTES];
    uint16_t port;
    ck_assert_int_eq(net_endpoint_split("tcp://[::1]:81", host, &port, NULL), LG_OK);
    ck_assert_str_eq(host, "::1");
    ck_assert_uint_eq(port, 81);
    ck_assert_int_eq(net_endpoint_split("tcp://a.b", host, &port, NULL), LG_INVALID);
    ck_assert_int_eq(net_endpoint_split("ipc:///tmp/x", host, &port, NULL), LG_INVALID);
}
END_TEST

START_TEST(knows_loopback) {
    ck_assert(net_is_loopback("tcp://127.0.0.1:1"));
    ck_assert(net_is_loopback("tcp://127.9.9.9:1"));
    ck_assert(net_is_loopback("tcp://localhost:1"));
    ck_assert(net_is_loopback("tcp://[::1]:1"));
    ck_assert(net_is_loopback("ipc:///tmp/x"));
    ck_assert(net_is_loopback("tcp://[::ffff:127.0.0.1]:1"));
    ck_assert(!net_is_loopback("tcp://0.0.0.0:1"));
    ck_assert(!net_is_loopback("tcp://*:1"));
    ck_assert(!net_is_loopback("tcp://[::]:1"));
    ck_assert(!net_is_loopback("tcp://128.0.0.1:1"));
    ck_assert(!net_is_loopback("tcp://127.0.0.1.example:1"));
    ck_assert(!net_is_loopback("not an address"));
}
END_TEST

START_TEST(derives_what_to_advertise) {
    char endpoint[NET_ENDPOINT_BYTES];
    struct lg_error error;
    ck_assert_int_eq(net_advertise("tcp://127.0.0.1:40", NULL, endpoint, &error), LG_OK);
    ck_assert_str_eq(endpoint, "tcp://127.0.0.1:40");
    ck_assert_int_eq(net_advertise("tcp://0.0.0.0:40", "node7", endpoint, &error), LG_OK);
    ck_assert_str_eq(endpoint, "tcp://node7:40");
    ck_assert_int_eq(net_advertise("tcp://[::]:40", "[2001:db8::2]:41", endpoint, &error), LG_OK);
    ck_assert_str_eq(endpoint, "tcp://[2001:db8::2]:41");
    ck_assert_int_eq(net_advertise("tcp://0.0.0.0:40", "", endpoint, &error), LG_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "set \"advertise\""));
    ck_assert_int_eq(net_advertise("tcp://0.0.0.0:40", "0.0.0.0", endpoint, &error), LG_INVALID);
    ck_assert_int_eq(net_advertise("ipc:///tmp/x", "node7", endpoint, &error), LG_OK);
    ck_assert_str_eq(endpoint, "ipc:///tmp/x");
    ck_assert_int_eq(net_advertise("tcp://0.0.0.0:40", "ipc:///tmp/x", endpoint, &error), LG_INVALID);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("net_address");
    TCase *tests = tcase_create("net_address");
    tcase_add_loop_test(tests, parses_addresses, 0, (int)(sizeof cases / sizeof cases[0]));
    tcase_add_test(tests, refuses_a_long_host);
    tcase_add_test(tests, splits_endpoints);
    tcase_add_test(tests, knows_loopback);
    tcase_add_test(tests, derives_what_to_advertise);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
