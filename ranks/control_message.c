// Packing and parsing of control messages, for every carrier.
#include "ranks/control_message.h"

#include <string.h>

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int32_t most_cuts(const oct_control_limits *limits)
{
    return OCT_CONTROL_CUTS * limits->slots;
}

size_t oct_control_message_bytes(const oct_control_limits *limits)
{
    const size_t payload = larger(oct_control_step_bytes(limits->columns, most_cuts(limits)),
                                  oct_control_sequence_bytes(limits->context, most_cuts(limits)));
    return (sizeof(oct_control_header) + payload + 7) / 8 * 8;
}

oct_status oct_control_pack(uint8_t *message, size_t *message_bytes, const oct_control_limits *limits,
                            uint64_t sequence, oct_control_kind kind, const void *payload, size_t payload_bytes)
{
    const size_t limit = oct_control_message_bytes(limits) - sizeof(oct_control_header);
    if (payload_bytes > limit)
        return oct_fail(OCT_ERR_INTERNAL, "a control message of %zu bytes passes the limit of %zu", payload_bytes,
                        limit);
    const oct_control_header header = {
        .sequence = sequence, .kind = (int32_t)kind, .payload_bytes = (uint32_t)payload_bytes};
    memcpy(message, &header, sizeof header);
    if (payload_bytes > 0)
        memcpy(message + sizeof header, payload, payload_bytes);
    *message_bytes = sizeof header + payload_bytes;
    return OCT_OK;
}

static oct_status malformed(const char *what, int64_t found, int64_t least, int64_t most)
{
    return oct_fail(OCT_ERR_INTERNAL, "a control message is malformed: %s is %lld, expected %lld to %lld", what,
                    (long long)found, (long long)least, (long long)most);
}

static oct_status check(const char *what, int64_t found, int64_t least, int64_t most)
{
    return found >= least && found <= most ? OCT_OK : malformed(what, found, least, most);
}

static oct_status check_bytes(const char *what, size_t found, size_t expected)
{
    return check(what, (int64_t)found, (int64_t)expected, (int64_t)expected);
}

static oct_status check_cuts(const oct_control_cut *cuts, int32_t count, const oct_control_limits *limits)
{
    oct_status status = OCT_OK;
    for (int32_t i = 0; status == OCT_OK && i < count; i++) {
        status = check("the slot of a cut", cuts[i].slot, 0, limits->slots - 1);
        if (status == OCT_OK)
            status = check("the length that a cut leaves", cuts[i].length, 0, limits->context);
    }
    return status;
}

static oct_status check_columns(const oct_control_step *step, const oct_control_limits *limits)
{
    for (int32_t i = 0; i < step->count; i++) {
        const oct_control_column *column = &step->columns[i];
        oct_status status = check("a token", column->token, 0, limits->vocabulary - 1);
        if (status == OCT_OK)
            status = check("a column's slot", column->slot, 0, limits->slots - 1);
        if (status == OCT_OK)
            status = check("what a column wants", column->want, OCT_WANT_NOTHING, OCT_WANT_LOGITS);
        if (status == OCT_OK)
            status = check("whether a token belongs to the prompt", column->prompt, 0, 1);
        if (status != OCT_OK)
            return status;
    }
    return OCT_OK;
}

static oct_status check_step(const oct_control_step *step, size_t bytes, const oct_control_limits *limits)
{
    if (bytes < sizeof *step)
        return malformed("the length of a step", (int64_t)bytes, (int64_t)oct_control_step_bytes(1, 0),
                         (int64_t)oct_control_step_bytes(limits->columns, most_cuts(limits)));
    oct_status status = check("the number of columns", step->count, 1, limits->columns);
    if (status == OCT_OK)
        status = check("the number of cuts", step->cut_count, 0, most_cuts(limits));
    if (status == OCT_OK)
        status = check_bytes("the length of a step", bytes, oct_control_step_bytes(step->count, step->cut_count));
    if (status == OCT_OK)
        status = check_columns(step, limits);
    return status == OCT_OK ? check_cuts(oct_control_step_cuts(step), step->cut_count, limits) : status;
}

static oct_status check_sequence(const oct_control_sequence *begun, size_t bytes, const oct_control_limits *limits)
{
    if (bytes < sizeof *begun)
        return malformed("the length of a sequence", (int64_t)bytes, (int64_t)oct_control_sequence_bytes(0, 0),
                         (int64_t)oct_control_sequence_bytes(limits->context, most_cuts(limits)));
    oct_status status = check("the slot of a sequence", begun->slot, 0, limits->slots - 1);
    if (status == OCT_OK)
        status = check("the number of tokens that a sequence begins with", begun->count, 0, limits->context);
    if (status == OCT_OK)
        status = check("how many of them are prompt", begun->prompt_count, 0, begun->count);
    if (status == OCT_OK)
        status = check("the number of cuts", begun->cut_count, 0, most_cuts(limits));
    if (status == OCT_OK)
        status = check_bytes("the length of a sequence", bytes,
                             oct_control_sequence_bytes(begun->count, begun->cut_count));
    for (int32_t i = 0; status == OCT_OK && i < begun->count; i++)
        status = check("a token of a sequence", begun->tokens[i], 0, limits->vocabulary - 1);
    if (status == OCT_OK)
        status = check_cuts(oct_control_sequence_cuts(begun), begun->cut_count, limits);
    if (status != OCT_OK)
        return status;
    return oct_sampling_check_from(&begun->sampling, limits->vocabulary, "a control message is malformed: ") == OCT_OK
               ? OCT_OK
               : OCT_ERR_INTERNAL;
}

// The length of payloads that have but one.
static size_t fixed_bytes(oct_control_kind kind)
{
    switch (kind) {
    case OCT_CONTROL_LOGITS:
        return sizeof(int32_t);
    case OCT_CONTROL_TOUCH:
        return sizeof(int64_t);
    case OCT_CONTROL_SEQUENCE:
    case OCT_CONTROL_STEP:
    case OCT_CONTROL_PROBE:
    case OCT_CONTROL_IDLE:
    case OCT_CONTROL_PASS:
    case OCT_CONTROL_FINISH:
        break;
    }
    return 0;
}

static oct_status check_payload(oct_control_kind kind, const void *payload, size_t bytes,
                                const oct_control_limits *limits)
{
    if (kind == OCT_CONTROL_STEP)
        return check_step(payload, bytes, limits);
    if (kind == OCT_CONTROL_SEQUENCE)
        return check_sequence(payload, bytes, limits);
    const oct_status status = check_bytes("the length of a payload", bytes, fixed_bytes(kind));
    if (status != OCT_OK)
        return status;
    if (kind == OCT_CONTROL_LOGITS)
        return check("a logit column", *(const int32_t *)payload, 0, limits->columns - 1);
    if (kind == OCT_CONTROL_TOUCH)
        return check("a number of positions", *(const int64_t *)payload, 0, limits->context);
    return OCT_OK;
}

oct_status oct_control_parse(const uint8_t *message, size_t message_bytes, const oct_control_limits *limits,
                             uint64_t sequence, oct_control_kind *kind, const void **payload, size_t *payload_bytes)
{
    oct_control_header header;
    const int64_t least = sizeof header, most = (int64_t)oct_control_message_bytes(limits);
    oct_status status = check("its length", (int64_t)message_bytes, least, most);
    if (status != OCT_OK)
        return status;
    memcpy(&header, message, sizeof header);
    if (header.sequence != sequence)
        return oct_fail(OCT_ERR_INTERNAL, "control message number %llu came, expected number %llu",
                        (unsigned long long)header.sequence, (unsigned long long)sequence);
    status = check("its kind", header.kind, 0, OCT_CONTROL_FINISH);
    if (status == OCT_OK)
        status = check("the length in its header", header.payload_bytes, (int64_t)message_bytes - least,
                       (int64_t)message_bytes - least);
    if (status == OCT_OK)
        status = check_payload((oct_control_kind)header.kind, message + sizeof header, header.payload_bytes, limits);
    if (status != OCT_OK)
        return status;
    *kind = (oct_control_kind)header.kind;
    *payload = message + sizeof header;
    *payload_bytes = header.payload_bytes;
    return OCT_OK;
}
