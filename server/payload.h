/* Payload as it lies in received frames: where each unit's encoded bytes begin, measured by the codec before anything
 * else looks at them. */
#ifndef LAGOON_SERVER_PAYLOAD_H
#define LAGOON_SERVER_PAYLOAD_H

#include "common/codec.h"
#include "proto/wire.h"

/* Where each unit's payload begins: data[message->unit_count]. LG_INVALID unless frames hold whole, well-formed units
 * in table order and nothing else. */
LG_MUST_CHECK enum lg_status payload_locate(const struct wire_message *message, const struct codec *codec,
                                            const uint8_t **data, uint64_t *bytes, struct lg_error *error);

#endif
