#include "server/gate.h"

#include <assert.h>

void gate_init(struct gate *gate, const struct consistency *mode, uint64_t bound, uint64_t bound_most,
               uint64_t pushes) {
    *gate = (struct gate){.mode = mode, .bound = bound, .bound_most = bound_most, .pushes = pushes};
}

static bool has(const struct gate *gate, unsigned flags) {
    return consistency_has(gate->mode, flags);
}

static bool has_clocks(const struct gate *gate) {
    return has(gate, CONSISTENCY_TAKES_BOUND);
}

/* ---- members */

/* The least clock of the members but for one, or `none`. */
static uint64_t least_clock(const struct gate *gate, const struct gate_member *but, uint64_t none) {
    uint64_t least = UINT64_MAX;
    for (const struct gate_member *member = gate->first; member; member = member->next)
        if (member != but && member->joined && member->clock < least)
            least = member->clock;
    return least == UINT64_MAX ? none : least;
}

/* Who comes, or comes back, starts where the slowest is: nobody waits for steps that it was not there for. */
static void join(struct gate *gate, struct gate_member *member) {
    if (member->joined)
        return;
    member->joined = true;
    if (member->next_round < gate->round)
        member->next_round = gate->round;
    if (has_clocks(gate)) {
        uint64_t least = least_clock(gate, member, member->clock);
        member->clock = member->clock > least ? member->clock : least;
        member->interval_ns = member->pushed_ns = 0;
    }
}

static void park(struct gate *gate, struct gate_member *member, enum gate_parked parked, uint64_t round) {
    gate->parked_count -= member->parked != GATE_PARKED_NONE;
    gate->parked_count += parked != GATE_PARKED_NONE;
    member->parked = parked;
    member->parked_round = round;
}

static void return_ticket(struct gate *gate, struct gate_member *member) {
    if (member->ticket && member->ticket_round == gate->round) {
        assert(gate->tickets > 0);
        gate->tickets--;
    }
    member->ticket = false;
}

void gate_open(struct gate *gate, struct gate_member *member) {
    *member = (struct gate_member){.open = true, .next = gate->first};
    if (gate->first)
        gate->first->previous = member;
    gate->first = member;
    if (!has(gate, CONSISTENCY_READS))
        join(gate, member);
}

void gate_close(struct gate *gate, struct gate_member *member) {
    if (!member->open)
        return;
    return_ticket(gate, member);
    park(gate, member, GATE_PARKED_NONE, 0);
    if (member->previous)
        member->previous->next = member->next;
    else
        gate->first = member->next;
    if (member->next)
        member->next->previous = member->previous;
    member->open = member->joined = false;
}

/* ---- dssp */

uint64_t gate_grant(int64_t fast_ns, int64_t fast_interval_ns, int64_t slow_ns, int64_t slow_interval_ns,
                    uint64_t most) {
    uint64_t best = 0;
    int64_t least = INT64_MAX;
    if (fast_interval_ns <= 0 || slow_interval_ns <= 0)
        return 0;
    for (uint64_t steps = 0; steps <= most; steps++) {
        int64_t there = fast_ns + (int64_t)steps * fast_interval_ns, past = there - slow_ns;
        int64_t pushes = past <= 0 ? 1 : (past + slow_interval_ns - 1) / slow_interval_ns; /* the slow one's next */
        int64_t wait = slow_ns + pushes * slow_interval_ns - there;
        if (wait < least) {
            least = wait;
            best = steps;
        }
    }
    return best;
}

/* The fastest is granted steps while there are any that make it wait less. */
static bool grants(const struct gate *gate, struct gate_member *member, uint64_t least) {
    const struct gate_member *slowest = NULL;
    if (!has(gate, CONSISTENCY_TAKES_BOUND_MOST) || member->clock - least > gate->bound_most)
        return false;
    if (member->clock <= member->granted)
        return true;
    for (const struct gate_member *other = gate->first; other; other = other->next) {
        if (other->joined && other->clock > member->clock)
            return false;
        if (other->joined && other->clock == least && !slowest)
            slowest = other;
    }
    if (!slowest)
        return false;
    uint64_t steps = gate_grant(member->pushed_ns, member->interval_ns, slowest->pushed_ns, slowest->interval_ns,
                                gate->bound_most - (member->clock - least) + 1);
    if (steps > 0)
        member->granted = member->clock + steps - 1;
    return steps > 0;
}

/* ---- what sessions ask */

static bool may_read(const struct gate *gate, const struct gate_member *member, uint64_t least) {
    if (has_clocks(gate))
        return member->clock - (least < member->clock ? least : member->clock) <= gate->bound;
    return gate->round >= member->next_round;
}

/* It pushes for the round that it reads in. */
static void pass_read(const struct gate *gate, struct gate_member *member) {
    if (member->next_round < gate->round)
        member->next_round = gate->round;
}

enum gate_answer gate_read(struct gate *gate, struct gate_member *member, uint64_t round) {
    return_ticket(gate, member);
    park(gate, member, GATE_PARKED_NONE, 0);
    join(gate, member);
    if (member->next_round < round)
        member->next_round = round;
    uint64_t least = has_clocks(gate) ? least_clock(gate, NULL, 0) : 0;
    if (!may_read(gate, member, least) && !(has_clocks(gate) && grants(gate, member, least))) {
        park(gate, member, GATE_PARKED_READ, round);
        return GATE_PARK;
    }
    pass_read(gate, member);
    return GATE_PASS;
}

enum gate_answer gate_rest(struct gate *gate, struct gate_member *member, uint64_t round) {
    return_ticket(gate, member);
    park(gate, member, GATE_PARKED_NONE, 0);
    member->joined = false;
    member->next_round = 0;
    if (!has(gate, CONSISTENCY_ROUNDS) || round <= gate->round)
        return GATE_PASS;
    park(gate, member, GATE_PARKED_REST, round);
    return GATE_PARK;
}

enum gate_answer gate_ticket(struct gate *gate, struct gate_member *member, uint64_t tag, uint64_t round) {
    if (member->ticket_tag == tag && tag != 0)
        return member->ticket_taken ? GATE_PASS : GATE_REFUSE;
    return_ticket(gate, member);
    member->ticket_tag = tag;
    member->ticket_taken = round == gate->round && gate->tickets < gate->pushes;
    member->ticket = member->ticket_taken;
    member->ticket_round = round;
    gate->tickets += member->ticket;
    return member->ticket ? GATE_PASS : GATE_REFUSE;
}

/* ---- pushes */

enum gate_push gate_takes(const struct gate *gate, uint64_t round) {
    if (!has(gate, CONSISTENCY_ROUNDS) || round == gate->round)
        return GATE_PUSH_TAKEN;
    return round < gate->round ? GATE_PUSH_LATE : GATE_PUSH_EARLY;
}

void gate_pushed(struct gate *gate, struct gate_member *member, uint64_t round, bool skipped, int64_t now_ns) {
    if (!member->open)
        return;
    join(gate, member);
    if (has_clocks(gate)) {
        member->clock++;
        member->interval_ns = member->pushed_ns ? now_ns - member->pushed_ns : 0;
        member->pushed_ns = now_ns;
    }
    if (skipped || gate_takes(gate, round) != GATE_PUSH_TAKEN)
        return;
    gate->contributions++;
    if (member->ticket && member->ticket_round == round)
        member->ticket = false; /* used */
    if (!has(gate, CONSISTENCY_REPEATS) && member->next_round <= round)
        member->next_round = round + 1;
}

/* ---- rounds and groups */

/* Somebody may still push for this round, or group. */
static bool is_held(const struct gate *gate) {
    bool rounds = has(gate, CONSISTENCY_ROUNDS);
    for (const struct gate_member *member = gate->first; member; member = member->next)
        if (member->joined && (!rounds || member->next_round <= gate->round))
            return true;
    return false;
}

/* UINT64_MAX: there are no members. */
static uint64_t least_round(const struct gate *gate) {
    uint64_t least = UINT64_MAX;
    for (const struct gate_member *member = gate->first; member; member = member->next)
        if (member->joined && member->next_round < least)
            least = member->next_round;
    return least;
}

bool gate_due(const struct gate *gate) {
    if (!has(gate, CONSISTENCY_GATHERS))
        return false;
    if (has(gate, CONSISTENCY_TAKES_PUSHES) && gate->contributions >= gate->pushes)
        return true;
    if (is_held(gate))
        return false;
    if (gate->contributions > 0 || gate->gathered)
        return true;
    return has(gate, CONSISTENCY_ROUNDS) && least_round(gate) != UINT64_MAX;
}

void gate_advance(struct gate *gate) {
    bool empty = gate->contributions == 0 && !gate->gathered;
    gate->contributions = gate->tickets = 0;
    gate->gathered = false;
    if (!has(gate, CONSISTENCY_ROUNDS))
        return;
    uint64_t least = least_round(gate);
    gate->round = empty && least != UINT64_MAX && least > gate->round ? least : gate->round + 1;
}

void gate_release(struct gate *gate, void (*pass)(void *context, struct gate_member *member), void *context) {
    if (gate->parked_count == 0)
        return;
    uint64_t least = has_clocks(gate) ? least_clock(gate, NULL, 0) : 0;
    for (struct gate_member *member = gate->first; member; member = member->next) {
        bool rests = member->parked == GATE_PARKED_REST;
        if (member->parked == GATE_PARKED_NONE ||
            !(rests ? gate->round >= member->parked_round : may_read(gate, member, least)))
            continue;
        park(gate, member, GATE_PARKED_NONE, 0);
        if (!rests)
            pass_read(gate, member);
        pass(context, member);
    }
}
