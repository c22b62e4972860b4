/* A client's share of a shard's memory on the same host: asks for it over the shard's Unix socket, maps the job's
 * segment and reads units out of it (proto/local.h). Nothing here blocks. What fails falls back to messages; `why` says
 * why. One thread. */
#ifndef LAGOON_CLIENT_LOCAL_LINK_H
#define LAGOON_CLIENT_LOCAL_LINK_H

#include "client/mapping.h"
#include "common/status.h"

enum local_state { LOCAL_OFF, LOCAL_ASKED, LOCAL_UP };

struct local_link {
    enum local_state state;
    int fd;                        /* asked: the socket; else -1 */
    const struct wire_unit *units; /* of the shard, ascending; borrowed */
    uint32_t unit_count;
    struct lg_mapping *mapping;        /* up; held */
    char why[LOCAL_REASON_BYTES + 64]; /* it is off; "" never tried, or the shard is elsewhere */
};

void local_link_init(struct local_link *link, const struct wire_unit *units, uint32_t unit_count);
void local_link_deinit(struct local_link *link);
/* Off: the connection to the shard was lost, or something did not fit. Others may hold the mapping longer. */
void local_link_drop(struct local_link *link);

/* Asks the shard that listens at `name`, handing it `ring_fd` (stays the caller's). A name that is not known on this
 * host leaves the link off without a reason. */
void local_link_ask(struct local_link *link, const char *name, const struct local_hello *hello, int ring_fd);
/* Looks for the answer of a link that has asked; true when its state has changed. */
bool local_link_answer(struct local_link *link);

/* False: not now (off, or the job has no values yet). Else *version is a base for pushes computed from what is read
 * after it. */
bool local_link_version(const struct local_link *link, uint64_t *version);
/* Unit `index` of the shard's list; see local_unit_read. */
enum local_read local_link_read(const struct local_link *link, uint32_t index, float *into, uint64_t *version);

#endif
