#include "bench/bench.h"

enum lg_status bench_plot(const struct bench_result *result, const char *path, struct lg_error *error) {
    (void)result;
    return lg_fail(error, LG_UNSUPPORTED, "cannot draw \"%s\": not offered yet", path);
}
