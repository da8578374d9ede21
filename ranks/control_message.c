// Packing and parsing of control messages, for every carrier.
#include "ranks/control_message.h"

#include <string.h>

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t step_bytes(int32_t columns)
{
    return sizeof(oct_control_step) + (size_t)columns * sizeof(oct_control_column);
}

static size_t sequence_bytes(int64_t tokens)
{
    return sizeof(oct_control_sequence) + (size_t)tokens * sizeof(int32_t);
}

size_t oct_control_message_bytes(const oct_control_limits *limits)
{
    const size_t payload = larger(step_bytes(limits->columns), sequence_bytes(limits->context));
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
        return malformed("the length of a step", (int64_t)bytes, (int64_t)step_bytes(1),
                         (int64_t)step_bytes(limits->columns));
    oct_status status = check("the number of columns", step->count, 1, limits->columns);
    if (status == OCT_OK)
        status = check("the length of a step", (int64_t)bytes, (int64_t)step_bytes(step->count),
                       (int64_t)step_bytes(step->count));
    return status == OCT_OK ? check_columns(step, limits) : status;
}

static oct_status check_sequence(const oct_control_sequence *begun, size_t bytes, const oct_control_limits *limits)
{
    if (bytes < sizeof *begun)
        return malformed("the length of a sequence", (int64_t)bytes, (int64_t)sequence_bytes(0),
                         (int64_t)sequence_bytes(limits->context));
    oct_status status = check("the slot of a sequence", begun->slot, 0, limits->slots - 1);
    if (status == OCT_OK)
        status = check("the number of tokens that a sequence begins with", begun->count, 0, limits->context);
    if (status == OCT_OK)
        status = check("how many of them are prompt", begun->prompt_count, 0, begun->count);
    if (status == OCT_OK)
        status = check("the length of a sequence", (int64_t)bytes, (int64_t)sequence_bytes(begun->count),
                       (int64_t)sequence_bytes(begun->count));
    for (int32_t i = 0; status == OCT_OK && i < begun->count; i++)
        status = check("a token of a sequence", begun->tokens[i], 0, limits->vocabulary - 1);
    if (status != OCT_OK)
        return status;
    return oct_sampling_check_from(&begun->sampling, limits->vocabulary, "a control message is malformed: ") == OCT_OK
               ? OCT_OK
               : OCT_ERR_INTERNAL;
}

static oct_status check_truncate(const oct_control_truncate *cut, const oct_control_limits *limits)
{
    const oct_status status = check("the slot of a truncation", cut->slot, 0, limits->slots - 1);
    return status == OCT_OK ? check("the length of a truncation", cut->length, 0, limits->context) : status;
}

// The length of payloads that have but one.
static size_t fixed_bytes(oct_control_kind kind)
{
    switch (kind) {
    case OCT_CONTROL_TRUNCATE:
        return sizeof(oct_control_truncate);
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
    const int64_t expected = (int64_t)fixed_bytes(kind);
    const oct_status status = check("the length of a payload", (int64_t)bytes, expected, expected);
    if (status != OCT_OK)
        return status;
    if (kind == OCT_CONTROL_TRUNCATE)
        return check_truncate(payload, limits);
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
