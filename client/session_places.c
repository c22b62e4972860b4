/* Pulls for callers that copy themselves: which units have changed, where they lie, and which copies were whole.
 *
 * A unit that lies in a shard's memory counts as not held from when it is told until its copy was whole; its version is
 * the one that was read before that copy. The base was read before any of it, as for other reads. */
#include "client/session_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- life */

static enum lg_status places_make(struct session *session, struct lg_error *error) {
    struct pull_places *places = &session->pull.places;
    const uint32_t units = session->parts.blocks.count ? session->parts.blocks.count : 1;
    places->news = calloc(units, sizeof *places->news);
    places->places = calloc(units, sizeof *places->places);
    places->mappings = calloc(session->config.shard_count, sizeof *places->mappings);
    if (places->news && places->places && places->mappings)
        return LG_OK;
    session_places_deinit(session);
    return lg_fail(error, LG_NO_MEMORY, "no memory for the places of %u units", units);
}

enum lg_status session_places_open(struct session *session, struct lg_error *error) {
    struct pull_places *places = &session->pull.places;
    enum lg_status status = places->news ? LG_OK : places_make(session, error);
    if (status != LG_OK)
        return status;
    session_places_close(session);
    memset(places->news, UNIT_NEWS_NONE, session->parts.blocks.count * sizeof *places->news);
    places->count = places->tries = 0;
    return LG_OK;
}

void session_places_close(struct session *session) {
    struct pull_places *places = &session->pull.places;
    for (uint32_t i = 0; places->mappings && i < session->config.shard_count; i++) {
        if (places->mappings[i])
            lg_mapping_release(places->mappings[i]);
        places->mappings[i] = NULL;
    }
}

void session_places_deinit(struct session *session) {
    struct pull_places *places = &session->pull.places;
    session_places_close(session);
    free(places->news);
    free(places->places);
    free(places->mappings);
    *places = (struct pull_places){0};
}

/* ---- finding */

/* What the slot's units are read in during this pull; NULL: nothing, or another than at first. */
static struct lg_mapping *mapping_of(struct session *session, uint32_t slot) {
    struct lg_mapping **held = &session->pull.places.mappings[slot];
    struct lg_mapping *now =
        session->sink.local_mapping ? session->sink.local_mapping(session->sink.context, slot) : NULL;
    if (!now || (*held && *held != now))
        return NULL;
    if (!*held)
        lg_mapping_hold(*held = now);
    return now;
}

bool session_places_find(struct session *session, uint32_t slot, const struct part *part) {
    const struct lg_mapping *mapping = mapping_of(session, slot);
    if (!mapping)
        return false;
    for (uint32_t i = part->first_unit; i < part->first_unit + part->unit_count; i++) {
        uint32_t unit = session->parts.slots[slot].units[i].unit;
        if (local_unit_is_at(mapping_unit(mapping, i), session->pull.held->versions[unit]))
            continue;
        session->pull.held->versions[unit] = 0;
        session->pull.places.news[unit] = UNIT_NEWS_IN_MAPPING;
    }
    return true;
}

void session_places_came(struct session *session, const struct held *held, uint32_t unit) {
    if (session->pull.to_places && session->pull.held == held)
        session->pull.places.news[unit] = UNIT_NEWS_IN_BUFFER;
}

/* ---- telling */

/* The sequence is one that no copy is whole with. */
static void place_add(struct session *session, uint32_t slot, uint32_t part, uint32_t index) {
    struct pull_places *places = &session->pull.places;
    const struct wire_unit *unit = &session->parts.slots[slot].units[index];
    const uint64_t offset = session->parts.blocks.blocks[unit->unit].offset;
    struct lg_place *place = &places->places[places->count++];
    *place = (struct lg_place){.values = session->pull.target + offset,
                               .offset = offset,
                               .elements = unit->elements,
                               .sequence = 1,
                               .unit = unit->unit,
                               .slot = slot,
                               .part = part};
    if (places->news[unit->unit] != UNIT_NEWS_IN_MAPPING)
        return;
    place->mapping = places->mappings[slot];
    place->values = mapping_values(place->mapping, index);
    place->guard = mapping_unit(place->mapping, index);
}

uint32_t session_places_tell(struct session *session) {
    session->pull.places.count = 0;
    for (uint32_t slot = 0; slot < session->config.shard_count; slot++) {
        const struct parts_slot *plan = &session->parts.slots[slot];
        for (uint32_t at = 0; at < plan->pull_count; at++)
            for (uint32_t i = 0; i < plan->pull[at].unit_count; i++)
                if (session->pull.places.news[plan->units[plan->pull[at].first_unit + i].unit] != UNIT_NEWS_NONE)
                    place_add(session, slot, at, plan->pull[at].first_unit + i);
    }
    return session->pull.places.count;
}

/* ---- checking */

static void place_whole(struct session *session, const struct lg_place *place) {
    session->pull.places.news[place->unit] = UNIT_NEWS_NONE;
    if (!place->mapping)
        return; /* its version is known since it came */
    session->pull.held->versions[place->unit] = place->version;
    session->slots[place->slot].read_bytes += place->elements * sizeof(float);
}

void session_places_check(struct session *session,
                          void (*unread)(struct session *session, uint32_t slot, uint32_t part)) {
    struct pull_places *places = &session->pull.places;
    places->tries++;
    for (uint32_t i = 0; i < places->count; i++) {
        const struct lg_place *place = &places->places[i];
        if (place->whole)
            place_whole(session, place);
        else if (place->mapping && (places->tries >= LOCAL_TRIES || lg_mapping_gone(place->mapping))) {
            places->news[place->unit] = UNIT_NEWS_NONE;
            unread(session, place->slot, place->part);
        }
    }
}
