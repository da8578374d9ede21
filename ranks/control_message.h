// The messages of the control channel as bytes: one function packs them, one parses them, whatever carries them.
// A message is a header and a payload in the byte order of the machine: the ranks of a job run the same program.
#ifndef OCT_RANKS_CONTROL_MESSAGE_H
#define OCT_RANKS_CONTROL_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "ranks/control.h"

typedef struct oct_control_header {
    uint64_t sequence;     // the first message has 1, each later one is one more
    int32_t kind;          // oct_control_kind
    uint32_t payload_bytes; // behind the header
} oct_control_header;

// Bytes of the longest message that the limits allow, a multiple of 8. LOCAL.
size_t oct_control_message_bytes(const oct_control_limits *limits);

// Writes a message to `message`, which has room for oct_control_message_bytes(); *message_bytes is its length. The
// payload is what oct_control_kind says. Errors: OCT_ERR_INTERNAL where it is longer than any message. LOCAL.
oct_status oct_control_pack(uint8_t *message, size_t *message_bytes, const oct_control_limits *limits,
                            uint64_t sequence, oct_control_kind kind, const void *payload, size_t payload_bytes);

// Reads a message of `message_bytes` bytes (8-byte aligned) that should have this sequence number. Nothing in it is
// trusted: afterwards the payload is as long as its kind and counts say, slots, columns, tokens, positions, cuts and
// wishes lie within the limits, and sampling parameters are what oct_sampling_check() allows. *payload points into the
// message. Errors: OCT_ERR_INTERNAL with what was found and expected; outputs are then unchanged. LOCAL.
oct_status oct_control_parse(const uint8_t *message, size_t message_bytes, const oct_control_limits *limits,
                             uint64_t sequence, oct_control_kind *kind, const void **payload, size_t *payload_bytes);

#endif
