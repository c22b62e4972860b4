#include "bench/probe.h"

#include <stdio.h>

enum { COUNT_MAX = 20000 };

enum lg_status probe_add(const struct probe *probe, struct figures *figures, const char *ending, const char *unit,
                         double value, struct lg_error *error) {
    char name[FIGURE_NAME_BYTES + 16];
    if (!figures)
        return LG_OK;
    snprintf(name, sizeof name, "%s%s", probe->name, ending);
    return figures_add(figures, name, unit, value, error);
}

enum lg_status probe_add_latency(const struct probe *probe, struct figures *figures,
                                 const struct process_report *report, struct lg_error *error) {
    enum lg_status status = probe_add(probe, figures, ".p50", "us", report->values[0], error);
    return status == LG_OK ? probe_add(probe, figures, ".p99", "us", report->values[1], error) : status;
}

enum lg_status probe_plan_check(const struct probe_plan *plan, struct lg_error *error) {
    return plan->interrupted && *plan->interrupted ? lg_fail(error, LG_CANCELLED, "interrupted") : LG_OK;
}

/* The first time maps pages and opens windows; the second says how long one time takes. */
static enum lg_status warm(struct probe *probe, double seconds, struct lg_error *error) {
    uint32_t least = probe->least > 0 ? probe->least : 1;
    enum lg_status status = LG_OK;
    probe->count = least;
    for (int i = 0; status == LG_OK && i < 2; i++)
        status = probe->measure(probe, NULL, error);
    double each_s = probe->spent_s / least;
    double fitting = each_s > 0 ? seconds / each_s : COUNT_MAX;
    probe->count = fitting > COUNT_MAX ? COUNT_MAX : fitting > least ? (uint32_t)fitting : least;
    return status;
}

enum lg_status probes_run(struct probe *probes, size_t count, const struct probe_plan *plan, struct figures *figures,
                          struct lg_error *error) {
    enum lg_status status = LG_OK;
    for (size_t i = 0; status == LG_OK && i < count; i++)
        status = warm(&probes[i], plan->seconds, error);
    for (unsigned round = plan->begin; status == LG_OK && round < plan->rounds; round++)
        for (size_t i = 0; status == LG_OK && i < count; i++) {
            size_t at = round % 2 == 0 ? i : count - 1 - i; /* a drift within a round favours nobody */
            char text[FIGURE_NAME_BYTES + 64];
            snprintf(text, sizeof text, "round %u of %u: %s", round + 1, plan->rounds, probes[at].name);
            if (plan->tell)
                plan->tell(plan->context, text);
            status = probe_plan_check(plan, error);
            if (status == LG_OK)
                status = probes[at].measure(&probes[at], figures, error);
        }
    return status;
}
