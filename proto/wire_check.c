/* Rules between the fields of one body. What needs state (does the job exist, is the fence current) is the
 * receiver's. */
#include "proto/wire_internal.h"

enum { PARTS_MAX = 65536 };

/* Positions ascend strictly and lie strictly inside (first, end). */
static enum lg_status positions_check(const char *what, const uint64_t *positions, size_t count, uint64_t first,
                                      uint64_t end, struct lg_error *error) {
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && positions[i] <= positions[i - 1])
            return lg_fail(error, LG_MALFORMED, "%s do not ascend: %llu follows %llu", what,
                           (unsigned long long)positions[i], (unsigned long long)positions[i - 1]);
        if (positions[i] <= first || positions[i] >= end)
            return lg_fail(error, LG_MALFORMED, "%s: %llu is not inside (%llu, %llu)", what,
                           (unsigned long long)positions[i], (unsigned long long)first, (unsigned long long)end);
    }
    return LG_OK;
}

static enum lg_status ascending_check(const char *what, const uint64_t *positions, size_t count,
                                      struct lg_error *error) {
    for (size_t i = 1; i < count; i++)
        if (positions[i] <= positions[i - 1])
            return lg_fail(error, LG_MALFORMED, "%s do not ascend: %llu follows %llu", what,
                           (unsigned long long)positions[i], (unsigned long long)positions[i - 1]);
    return LG_OK;
}

static enum lg_status range_check(const char *what, uint64_t first, uint64_t end, struct lg_error *error) {
    if (first <= end)
        return LG_OK;
    return lg_fail(error, LG_MALFORMED, "%s ends at %llu, before its first sample %llu", what, (unsigned long long)end,
                   (unsigned long long)first);
}

static enum lg_status push_check(const struct wire_push *push, struct lg_error *error) {
    if (push->part_count == 0 || push->part_count > PARTS_MAX || push->part >= push->part_count)
        return lg_fail(error, LG_MALFORMED, "a push is part %u of %u; parts count from 0 and there are at most %d",
                       push->part, push->part_count, PARTS_MAX);
    if (push->cover_count == 0)
        return lg_fail(error, LG_MALFORMED, "a push covers no samples: 1 to %d covers are needed", WIRE_COVERS_MAX);
    if (push->kind == WIRE_PUSH_KIND_SKIPPED && push->ring)
        return lg_fail(error, LG_MALFORMED, "a push that is skipped has no payload, in shared memory or elsewhere");
    enum lg_status status = LG_OK;
    for (size_t i = 0; i < push->cover_count && !status; i++)
        status = range_check("a push's cover", push->covers[i].first, push->covers[i].end, error);
    return status;
}

static enum lg_status grant_check(const struct wire_lease_grant *grant, struct lg_error *error) {
    enum lg_status status = range_check("a lease", grant->first, grant->end, error);
    if (status)
        return status;
    return positions_check("a lease's cuts", grant->cuts, grant->cut_count, grant->first, grant->end, error);
}

enum lg_status wire_body_check(const struct wire_message *message, struct lg_error *error) {
    switch (message->kind) {
    case WIRE_PUSH:
        return push_check(&message->push, error);
    case WIRE_PUSH_REPLY:
        return ascending_check("a push reply's cuts", message->push_reply.cuts, message->push_reply.cut_count, error);
    case WIRE_MARKS_QUERY:
        return range_check("a marks query", message->marks_query.first, message->marks_query.end, error);
    case WIRE_MARKS_REPLY:
        return ascending_check("marks", message->marks_reply.marks, message->marks_reply.mark_count, error);
    case WIRE_LEASE_GRANT:
        return grant_check(&message->lease_grant, error);
    default:
        return LG_OK;
    }
}
