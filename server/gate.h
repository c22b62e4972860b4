/* Who may read and push now: the clocks, rounds and tickets of one job on one shard.
 *
 * A small state machine without messages: shard_gate.c tells it what sessions say and do, and asks whom to let pass. A
 * *member* is a session whose next push others may have to wait for: one that has said READ (buffered: that is open)
 * and has not said REST since. Sessions that end are no members, so nobody waits for the dead.
 *
 *   ssp, dssp   a member's clock counts its pushes. READ passes while it is at most `bound` ahead of the least.
 *   rounds      `round` counts the rounds that have ended. A member is going to push for `next_round`, and *holds*
 * every round from there on. READ passes when its round has begun. A round ends when it has all the pushes that it
 *               takes, or nobody holds it.
 *   buffered    nobody waits. A group is due after so many pushes, or when there is no member left.
 *
 * Whatever changes may make a group due: commit it, gate_advance, until gate_due says no; then gate_release. One
 * thread; nothing is allocated. */
#ifndef LAGOON_SERVER_GATE_H
#define LAGOON_SERVER_GATE_H

#include <stdint.h>

#include "client/consistency.h"

enum gate_parked { GATE_PARKED_NONE, GATE_PARKED_READ, GATE_PARKED_REST };

struct gate_member {
    bool open, joined;              /* known here; a member */
    uint64_t next_round;            /* that it will push for; meaningful while joined */
    uint64_t clock;                 /* pushes, as ssp counts them */
    uint64_t granted;               /* dssp: it may read up to this clock, however far ahead that is */
    int64_t pushed_ns, interval_ns; /* its last push, and the time between its last two; 0: none yet */
    enum gate_parked parked;
    uint64_t parked_round;
    uint64_t tag;      /* of its last gate */
    bool ticket;       /* of ticket_round, not used yet */
    bool ticket_taken; /* what was answered to ticket_tag */
    uint64_t ticket_tag, ticket_round;
    struct gate_member *next, *previous;
};

struct gate {
    const struct consistency *mode;
    uint64_t bound, bound_most, pushes; /* as the job says */
    uint64_t round;
    uint64_t contributions; /* whole pushes of the round, or of the group */
    uint64_t tickets;       /* given out for the round */
    bool gathered;          /* something is to be committed */
    struct gate_member *first;
    uint32_t parked_count;
};

enum gate_answer { GATE_PASS, GATE_PARK, GATE_REFUSE };
enum gate_push { GATE_PUSH_TAKEN, GATE_PUSH_LATE, GATE_PUSH_EARLY };

void gate_init(struct gate *gate, const struct consistency *mode, uint64_t bound, uint64_t bound_most, uint64_t pushes);
void gate_open(struct gate *gate, struct gate_member *member);
/* Takes back a ticket that was not used. A member that is not open is let alone. */
void gate_close(struct gate *gate, struct gate_member *member);

/* PASS, or PARK: gate_release will name the member. */
enum gate_answer gate_read(struct gate *gate, struct gate_member *member, uint64_t round);
enum gate_answer gate_rest(struct gate *gate, struct gate_member *member, uint64_t round);
/* PASS: it may push for `round`; REFUSE: the round is over, or has all it takes. The same tag gets the same answer. */
enum gate_answer gate_ticket(struct gate *gate, struct gate_member *member, uint64_t tag, uint64_t round);

/* What is to become of a push for `round`. */
enum gate_push gate_takes(const struct gate *gate, uint64_t round);
/* The member's push for `round` is whole here; `skipped`: it brought nothing. */
void gate_pushed(struct gate *gate, struct gate_member *member, uint64_t round, bool skipped, int64_t now_ns);

/* True when what was gathered is to be applied, or a round with nothing in it is over. */
bool gate_due(const struct gate *gate);
/* After that was done. */
void gate_advance(struct gate *gate);
/* Calls `pass` for every parked member that may pass now. */
void gate_release(struct gate *gate, void (*pass)(void *context, struct gate_member *member), void *context);

/* Steps, 0 to `most`, that a member may go on for so that it then waits least for the slowest one's next push, if both
 * keep their pace; 0 where that is not known. Times of the last push and between the last two. */
uint64_t gate_grant(int64_t fast_ns, int64_t fast_interval_ns, int64_t slow_ns, int64_t slow_interval_ns,
                    uint64_t most);

#endif
