/* What copying costs: memcpy from one array to another, both of a tensor's size, touched before. */
#include <stdlib.h>
#include <string.h>

#include "bench/limit.h"

static int run(int fd, const void *context) {
    const struct limit *limit = context;
    struct process_report report = {0};
    struct process_order order;
    char *from = aligned_alloc(64, limit->bytes), *to = aligned_alloc(64, limit->bytes);
    if (!from || !to) {
        struct lg_error error;
        lg_fail(&error, LG_NO_MEMORY, "no memory for two tensors");
        (void)process_say_error(fd, &error);
        return EXIT_FAILURE;
    }
    memset(from, 1, limit->bytes);
    memset(to, 2, limit->bytes);
    (void)process_say(fd, &report);
    while (process_next(fd, &order)) {
        report.began_s = process_now_s();
        for (uint32_t i = 0; i < order.count; i++) {
            memcpy(to, from, limit->bytes);
            __asm__ volatile("" : : "r"(to) : "memory"); /* every copy is made */
        }
        report.ended_s = process_now_s();
        if (!process_say(fd, &report))
            break;
    }
    return EXIT_SUCCESS;
}

enum lg_status limit_memory_open(struct limit *limit, uint64_t bytes, struct lg_error *error) {
    struct process_report report;
    *limit = (struct limit){.bytes = bytes};
    return process_start(&limit->processes[0], "limit-memory", run, limit, &report, error);
}

enum lg_status limit_memory_copy(struct probe *probe, struct figures *figures, struct lg_error *error) {
    struct limit *limit = probe->station;
    struct process_report report;
    enum lg_status status =
        process_ask(&limit->processes[0], &(struct process_order){.count = probe->count}, &report, error);
    if (status != LG_OK)
        return status;
    probe->spent_s = report.ended_s - report.began_s;
    double bytes = (double)limit->bytes * probe->count;
    return probe_add(probe, figures, "", "GB/s", bytes / probe->spent_s / 1e9, error);
}
