// Fuzzes the parser of control messages: any bytes are refused with a message, or are within the limits and packed
// again to the same bytes.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ranks/control_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const oct_control_limits limits = {.slots = 4, .columns = 8, .vocabulary = 1000, .context = 256};

static void demand(bool truth)
{
    if (!truth)
        abort();
}

static void look_at_cuts(const oct_control_cut *cuts, int32_t count)
{
    demand(count >= 0 && count <= OCT_CONTROL_CUTS * limits.slots);
    for (int32_t i = 0; i < count; i++) {
        demand(cuts[i].slot >= 0 && cuts[i].slot < limits.slots);
        demand(cuts[i].length >= 0 && cuts[i].length <= limits.context);
    }
}

static void look_at_step(const oct_control_step *step, size_t bytes)
{
    demand(step->count >= 1 && step->count <= limits.columns);
    demand(bytes == oct_control_step_bytes(step->count, step->cut_count));
    look_at_cuts(oct_control_step_cuts(step), step->cut_count);
    for (int32_t i = 0; i < step->count; i++) {
        const oct_control_column *column = &step->columns[i];
        demand(column->token >= 0 && column->token < limits.vocabulary);
        demand(column->slot >= 0 && column->slot < limits.slots);
        demand(column->want >= OCT_WANT_NOTHING && column->want <= OCT_WANT_LOGITS);
        demand(column->prompt == 0 || column->prompt == 1);
    }
}

static void look_at_sequence(const oct_control_sequence *begun, size_t bytes)
{
    demand(begun->count >= 0 && begun->count <= limits.context);
    demand(begun->prompt_count >= 0 && begun->prompt_count <= begun->count);
    demand(bytes == oct_control_sequence_bytes(begun->count, begun->cut_count));
    look_at_cuts(oct_control_sequence_cuts(begun), begun->cut_count);
    for (int32_t i = 0; i < begun->count; i++)
        demand(begun->tokens[i] >= 0 && begun->tokens[i] < limits.vocabulary);
    demand(begun->slot >= 0 && begun->slot < limits.slots);
    demand(begun->sampling.bias_count >= 0 && begun->sampling.bias_count <= OCT_MAX_LOGIT_BIASES);
    demand(begun->sampling.logprobs >= 0 && begun->sampling.logprobs <= OCT_MAX_LOGPROBS);
    for (int32_t i = 0; i < begun->sampling.bias_count; i++)
        demand(begun->sampling.biases[i].token >= 0 && begun->sampling.biases[i].token < limits.vocabulary);
}

static void look_at_the_rest(oct_control_kind kind, const void *payload)
{
    const int32_t *number = payload;
    const int64_t *positions = payload;
    if (kind == OCT_CONTROL_LOGITS)
        demand(*number >= 0 && *number < limits.columns);
    if (kind == OCT_CONTROL_TOUCH)
        demand(*positions >= 0 && *positions <= limits.context);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *message = malloc(size > 0 ? size : 1), *packed = calloc(1, oct_control_message_bytes(&limits));
    oct_control_kind kind;
    const void *payload;
    size_t payload_bytes, packed_bytes;
    if (message == NULL || packed == NULL)
        abort();
    memcpy(message, data, size);
    oct_failure_clear();
    const oct_status status = oct_control_parse(message, size, &limits, 1, &kind, &payload, &payload_bytes);
    if (status != OCT_OK) {
        demand(status == OCT_ERR_INTERNAL && oct_failure_text()[0] != '\0');
    } else {
        if (kind == OCT_CONTROL_STEP)
            look_at_step(payload, payload_bytes);
        else if (kind == OCT_CONTROL_SEQUENCE)
            look_at_sequence(payload, payload_bytes);
        else
            look_at_the_rest(kind, payload);
        demand(oct_control_pack(packed, &packed_bytes, &limits, 1, kind, payload, payload_bytes) == OCT_OK);
        demand(packed_bytes == size && memcmp(packed, message, size) == 0);
    }
    free(message);
    free(packed);
    return 0;
}
