// The description of a step's sampled columns for the device.
#include <string.h>

#include "kernels/cuda/head.h"

static oct_status add_biases(const oct_sampling *sampling, int32_t first, int32_t rows, oct_cuda_adjustments *to)
{
    for (int32_t i = 0; i < sampling->bias_count; i++) {
        const int64_t row = (int64_t)sampling->biases[i].token - first;
        if (row < 0 || row >= rows)
            continue;
        if (to->bias_count == to->bias_capacity)
            return oct_fail(OCT_ERR_INTERNAL, "more than %lld logit biases in a step", (long long)to->bias_capacity);
        to->biases[to->bias_count++] = sampling->biases[i];
    }
    return OCT_OK;
}

static oct_status add_penalties(const oct_column_sampling *column, int32_t first, int32_t rows,
                                oct_cuda_adjustments *to)
{
    const oct_history *history = column->history;
    if (history == NULL || !oct_sampling_needs_history(column->sampling))
        return OCT_OK;
    for (int32_t i = 0; i < history->distinct; i++) {
        const int32_t token = history->distinct_tokens[i];
        const int64_t row = (int64_t)token - first;
        if (row < 0 || row >= rows)
            continue;
        int32_t total, outputs;
        oct_history_count(history, column->history_length, token, &total, &outputs);
        if (total == 0)
            continue;
        if (to->penalty_count == to->penalty_capacity)
            return oct_fail(OCT_ERR_INTERNAL, "more than %lld tokens with penalties in a step",
                            (long long)to->penalty_capacity);
        to->penalties[to->penalty_count++] = (oct_cuda_penalty){token, outputs};
    }
    return OCT_OK;
}

oct_status oct_cuda_describe_column(const oct_column_sampling *column, int32_t first, int32_t rows,
                                    oct_cuda_adjustments *adjustments, oct_cuda_sampled_column *described)
{
    const oct_sampling *sampling = column->sampling;
    memset(described, 0, sizeof *described);
    if (sampling == NULL)
        return OCT_OK;
    *described = (oct_cuda_sampled_column){
        .seed = sampling->seed,
        .position = column->position,
        .inverse_temperature = oct_sampling_inverse_temperature(sampling),
        .repetition = sampling->repetition_penalty,
        .presence = sampling->presence_penalty,
        .frequency = sampling->frequency_penalty,
        .sampled = 1,
        .greedy = oct_sampling_is_greedy(sampling),
        .list_size = oct_sampling_list_size(sampling),
        .by_temperature = !oct_sampling_is_greedy(sampling) && sampling->top_p < 1,
        .by_unit = sampling->logprobs > 0,
        .bias_begin = adjustments->bias_count,
        .penalty_begin = adjustments->penalty_count,
    };
    oct_status status = add_biases(sampling, first, rows, adjustments);
    if (status == OCT_OK)
        status = add_penalties(column, first, rows, adjustments);
    described->bias_end = adjustments->bias_count;
    described->penalty_end = adjustments->penalty_count;
    return status;
}
