/* The values of a reply: of large units one copy per (unit, version), shared by everyone who takes it in the same
 * codec; small ones gathered; or differences to what the asker holds. */
#include <assert.h>
#include <string.h>

#include "server/shard_state.h"

/* ---- what may be asked for */

static enum lg_status check_form(const struct shard_job *job, const struct shard_form *form, struct lg_error *error) {
    if (form->delta && !job->config.pull_delta)
        return lg_fail(error, LG_UNSUPPORTED, "\"%s\" has no differences for pulls: submit it with pull.delta",
                       job->name);
    if (form->codec->changes_only && !form->delta)
        return lg_fail(error, LG_INVALID, "%s is for differences: pull with delta, or in another codec",
                       form->codec->name);
    return LG_OK;
}

enum lg_status shard_check_pull(const struct shard_job *job, const struct shard_session *session,
                                const struct wire_message *asked, struct shard_form *form, struct lg_error *error) {
    const bool push = asked->kind == WIRE_PUSH;
    const enum wire_dtype dtype = push ? asked->push.pull_dtype : asked->pull.dtype;
    uint64_t bytes = 0;
    enum lg_status status =
        codec_of_wire((uint32_t)dtype, push ? asked->push.pull_codec : asked->pull.codec, &form->codec, error);
    form->delta = push ? asked->push.pull_delta : asked->pull.delta;
    if (status == LG_OK)
        status = check_form(job, form, error);
    for (size_t i = 0; i < asked->unit_count; i++)
        bytes += asked->units[i].elements * sizeof(float);
    if (status == LG_OK && (bytes > WIRE_PAYLOAD_BYTES_MAX || bytes > session->credit_bytes))
        status = lg_fail(error, LG_NO_CREDIT, "a pull of %llu bytes is larger than the credit of %llu: split it",
                         (unsigned long long)bytes, (unsigned long long)session->credit_bytes);
    return status;
}

/* ---- a reply's values
 *
 * A large unit is a frame of its own, which all readers share. Small ones that follow each other go into one frame,
 * since frames cost more than their bytes. Of the WIRE_PAYLOAD_BYTES_MAX that a reply holds at most, large units
 * take more than 32 KiB each: they are 127 at most, so with the gathered frames between them, before and after it
 * stays within WIRE_PAYLOAD_FRAMES_MAX. */
_Static_assert(2 * (WIRE_PAYLOAD_BYTES_MAX / (SHARD_GATHER_ELEMENTS * sizeof(float))) <= WIRE_PAYLOAD_FRAMES_MAX,
               "large units and the gathered ones between them fit into a message");
_Static_assert(8 * SHARD_GATHER_ELEMENTS <= BLOCK_ELEMENTS, "a gathered frame that is full stands for several");

/* A reply while it is made: of asked unit `next` and those after it, nothing is in it yet. */
struct reply_maker {
    struct shard *shard;
    const struct wire_message *asked;
    struct unit *const *units;
    struct shard_form form;
    struct codec_options options;
    struct shadow *shadow; /* NULL: what is sent need not be remembered */
    bool diverged;         /* a difference is not finite */
    size_t next;
    size_t unit_count, frame_count;
};

static bool is_held(const struct reply_maker *maker, size_t at) {
    const struct unit *unit = maker->units[at];
    return unit->version != 0 && maker->asked->units[at].version == unit->version;
}

/* Room that a unit needs in the reply, in floats. */
static size_t room_of(const struct reply_maker *maker, const struct unit *unit) {
    return (maker->form.codec->bytes_max(unit->elements, &maker->options) + sizeof(float) - 1) / sizeof(float);
}

/* True where the session was sent this version before. It is the same again then, with what a codec left out of it: so
 * a version stands for the same values whichever of two answers arrives. */
static bool was_sent(const struct reply_maker *maker, const struct unit *unit) {
    return maker->shadow && shadow_version(maker->shadow, unit) == unit->version;
}

/* Writes one unit and lists it; the bytes written. */
static size_t write_unit(struct reply_maker *maker, const struct unit *unit, uint8_t *out) {
    const enum isa isa = maker->shard->config.isa;
    const struct codec *codec = maker->form.codec;
    maker->shard->reply_units[maker->unit_count++] = (struct wire_unit){unit->number, unit->elements, unit->version};
    if (maker->form.delta) {
        const size_t bytes = shadow_encode(maker->shadow, unit, codec, isa, &maker->options, out);
        maker->diverged = maker->diverged || bytes == 0;
        return bytes;
    }
    if (maker->shadow && !was_sent(maker, unit))
        shadow_set(maker->shadow, unit);
    const float *values = was_sent(maker, unit) ? shadow_values(maker->shadow, unit) : unit->values;
    return codec->kernels[isa]->encode(values, NULL, unit->elements, &maker->options, out);
}

/* Keeps the last few snapshots, so that readers who come soon share them. */
static void cache_snapshot(struct shard *shard, struct unit *unit) {
    for (uint32_t i = 0; i < SHARD_SNAPSHOTS_CACHED; i++)
        if (shard->cached[i] == unit)
            shard->cached[i] = NULL; /* it goes to the young end */
    struct unit **oldest = &shard->cached[shard->cached_next++ % SHARD_SNAPSHOTS_CACHED];
    if (*oldest)
        unit_forget_snapshot(*oldest);
    *oldest = unit;
}

static struct snapshot *make_snapshot(struct reply_maker *maker, const struct unit *unit) {
    struct snapshot *snapshot = snapshot_reserve(maker->shard->pool, (uint32_t)room_of(maker, unit), unit->version);
    if (snapshot)
        snapshot->bytes = write_unit(maker, unit, (uint8_t *)snapshot->data);
    return snapshot;
}

/* The unit's snapshot in the reply's codec: from the last one who asked for it, or made now and kept. */
static struct snapshot *share_snapshot(struct reply_maker *maker, struct unit *unit) {
    const bool plain = maker->form.codec->exact;
    struct snapshot **kept = plain ? &unit->snapshot : &unit->encoded;
    if (!plain && unit->encoded && unit->encoded_as != maker->form.codec) {
        snapshot_release(unit->encoded);
        unit->encoded = NULL;
    }
    if (*kept) {
        maker->shard->reply_units[maker->unit_count++] =
            (struct wire_unit){unit->number, unit->elements, unit->version};
        if (maker->shadow)
            shadow_set(maker->shadow, unit);
    } else {
        *kept = make_snapshot(maker, unit);
        if (!*kept)
            return NULL;
        unit->encoded_as = plain ? unit->encoded_as : maker->form.codec;
        cache_snapshot(maker->shard, unit);
    }
    snapshot_retain(*kept);
    return *kept;
}

/* The room that the small units from `next` on take which go into one frame, and their number. */
static size_t gather_plan(const struct reply_maker *maker, size_t *count) {
    size_t room = 0;
    *count = 0;
    for (size_t i = maker->next; i < maker->asked->unit_count; i++) {
        if (is_held(maker, i))
            continue;
        size_t more = room_of(maker, maker->units[i]);
        if (maker->units[i]->elements > SHARD_GATHER_ELEMENTS || room + more > BLOCK_ELEMENTS)
            break;
        room += more;
        ++*count;
    }
    return room;
}

static bool add_frame(struct reply_maker *maker, struct snapshot *snapshot) {
    struct shard *shard = maker->shard;
    if (!snapshot)
        return false;
    assert(maker->frame_count < WIRE_PAYLOAD_FRAMES_MAX);
    shard->reply_payload[maker->frame_count] = (struct wire_bytes){snapshot->data, snapshot->bytes};
    shard->reply_snapshots[maker->frame_count++] = snapshot;
    return true;
}

static bool add_gathered(struct reply_maker *maker, size_t count, size_t room) {
    struct snapshot *snapshot = snapshot_reserve(maker->shard->pool, (uint32_t)room, 0);
    if (!snapshot)
        return false;
    snapshot->bytes = 0;
    for (; count > 0; maker->next++) {
        if (is_held(maker, maker->next))
            continue;
        snapshot->bytes += write_unit(maker, maker->units[maker->next], (uint8_t *)snapshot->data + snapshot->bytes);
        count--;
    }
    return add_frame(maker, snapshot);
}

static bool add_next(struct reply_maker *maker) {
    struct unit *unit = maker->units[maker->next];
    size_t count;
    if (is_held(maker, maker->next)) {
        maker->next++;
        return true;
    }
    size_t room = gather_plan(maker, &count);
    if (count > 1)
        return add_gathered(maker, count, room);
    maker->next++;
    bool alone = maker->form.delta || was_sent(maker, unit);
    return add_frame(maker, alone ? make_snapshot(maker, unit) : share_snapshot(maker, unit));
}

void shard_release_values(struct shard *shard, size_t count) {
    for (size_t i = 0; i < count; i++)
        snapshot_release(shard->reply_snapshots[i]);
}

static bool add_all(struct reply_maker *maker) {
    maker->next = maker->unit_count = maker->frame_count = 0;
    maker->diverged = false;
    while (maker->next < maker->asked->unit_count && !maker->diverged)
        if (!add_next(maker)) {
            shard_release_values(maker->shard, maker->frame_count);
            return false;
        }
    return true;
}

/* ---- what the session holds */

/* Made when it first asks; NULL where there is no memory. */
static struct shadow *shadow_of(struct shard *shard, struct shard_job *job, struct shard_session *session) {
    const bool extra = job->policy->compensation && job->policy->compensation->session_arrays > 0;
    const uint64_t limit = shard->config.memory_bytes, needed = shadow_bytes(job->units, job->unit_count, extra);
    if (session->shadow || (limit > 0 && shard_memory_bytes(shard) + needed > limit))
        return session->shadow;
    session->shadow = shadow_new(job->units, job->unit_count, extra);
    if (session->shadow) {
        job->state_bytes += session->shadow->bytes;
        shard_show_memory(shard);
    }
    return session->shadow;
}

void shard_forget_shadow(struct shard *shard, struct shard_job *job, struct shard_session *session) {
    if (!session->shadow)
        return;
    job->state_bytes -= session->shadow->bytes;
    shadow_free(session->shadow);
    session->shadow = NULL;
    shard_show_memory(shard);
}

/* ---- differences */

/* True when the session holds what the shard sent last of every unit that it lacks. */
static bool holds_the_same(const struct reply_maker *maker) {
    for (size_t i = 0; i < maker->asked->unit_count; i++) {
        const uint64_t sent = shadow_version(maker->shadow, maker->units[i]);
        if (!is_held(maker, i) && (sent == 0 || maker->asked->units[i].version != sent))
            return false;
    }
    return true;
}

static bool add_differences(struct reply_maker *maker) {
    if (maker->shadow && holds_the_same(maker)) {
        if (!add_all(maker))
            return false;
        if (!maker->diverged)
            return true;
        shard_release_values(maker->shard, maker->frame_count);
    }
    maker->form = (struct shard_form){.codec = codec_plain()};
    return add_all(maker);
}

/* ---- the reply */

/* Units that are left out of a reply are held as they are. */
static void note_held(const struct reply_maker *maker) {
    for (size_t i = 0; maker->shadow && i < maker->asked->unit_count; i++)
        if (is_held(maker, i) && shadow_version(maker->shadow, maker->units[i]) != maker->units[i]->version)
            shadow_set(maker->shadow, maker->units[i]);
}

static void tell_form(const struct shard_form *form, struct wire_message *reply) {
    const enum wire_dtype dtype = (enum wire_dtype)form->codec->dtype;
    if (reply->kind == WIRE_PUSH_REPLY) {
        reply->push_reply.dtype = dtype;
        reply->push_reply.codec = form->codec->number;
        reply->push_reply.delta = form->delta;
    } else {
        reply->pull_reply.dtype = dtype;
        reply->pull_reply.codec = form->codec->number;
        reply->pull_reply.delta = form->delta;
    }
}

enum lg_status shard_add_values(struct shard *shard, struct shard_job *job, struct shard_session *session,
                                const struct wire_message *asked, struct unit *const *units,
                                const struct shard_form *form, struct wire_message *reply, uint32_t *unchanged,
                                struct lg_error *error) {
    struct reply_maker maker = {.shard = shard, .asked = asked, .units = units, .form = *form};
    uint64_t bytes = 0;
    maker.options = (struct codec_options){.nearest = true, .keep = job->config.topk};
    const bool watched = job->policy->compensation && session->may_push;
    if (form->delta || watched)
        maker.shadow = shadow_of(shard, job, session);
    if (watched && !maker.shadow)
        return lg_fail(error, LG_NO_MEMORY,
                       "no memory for a copy of what the worker reads, which staleness policy \"%s\" needs",
                       job->policy->name);
    note_held(&maker);
    if (!(form->delta ? add_differences(&maker) : add_all(&maker)))
        return lg_fail(error, LG_UNAVAILABLE, "no memory for a copy of the parameters: try again");
    for (size_t i = 0; i < maker.frame_count; i++)
        bytes += shard->reply_payload[i].bytes;
    job->tally.pull_bytes += bytes;
    job->tally.pulls++;
    metric_add(job->cells.pull_bytes, bytes);
    if (unchanged)
        *unchanged = (uint32_t)(asked->unit_count - maker.unit_count);
    tell_form(&maker.form, reply);
    reply->units = shard->reply_units;
    reply->unit_count = maker.unit_count;
    reply->payload = shard->reply_payload;
    reply->payload_count = maker.frame_count;
    return LG_OK;
}
