// The operations of the step program on the CPU that begin with the residual stream: how each is divided over the
// threads of the team, and which kernels it calls. The numbers are the kernels' business.
#include <string.h>

#include "kernels/cpu/executor.h"
#include "runtime/progress.h"

// x through an RMSNorm where norm != NULL, in the forms of `forms`, as the only column of input.
static void prepare_column(const oct_cpu_backend *backend, oct_activations *input, const float *x, int64_t size,
                           const float *norm, int forms, float *row)
{
    const oct_cpu_kernels *kernels = backend->kernels;
    const int64_t width = oct_pad_columns(size);
    input->width = width;
    input->columns = 1;
    if (norm != NULL)
        kernels->rms_norm(x, norm, (int32_t)size, backend->program->model.norm_epsilon, row);
    else
        memcpy(row, x, (size_t)size * sizeof *row);
    memset(row + size, 0, (size_t)(width - size) * sizeof *row);
    if (forms & OCT_FORM_F32)
        memcpy(input->f32, row, (size_t)width * sizeof *row);
    if (forms & OCT_FORM_BF16) {
        kernels->round_bf16(row, width, input->bf16);
        for (int64_t i = 0; i < width; i++)
            input->rounded[i] = oct_bf16_to_f32(input->bf16[i]);
    }
    if (forms & OCT_FORM_INT8)
        kernels->quantize(row, width, input->codes, input->groups);
}

// Puts a column that stands alone into its panel.
static void pack_column(oct_activations *input, int32_t column, const oct_activations *alone, int forms)
{
    for (int64_t unit = 0; unit < alone->width / OCT_UNIT_COLUMNS; unit++) {
        const int64_t from = unit * OCT_UNIT_COLUMNS, at = oct_activation_unit(input, unit, column);
        const int64_t to = at * OCT_UNIT_COLUMNS;
        if (forms & OCT_FORM_F32)
            memcpy(input->f32 + to, alone->f32 + from, OCT_UNIT_COLUMNS * sizeof *alone->f32);
        if (forms & OCT_FORM_BF16) {
            memcpy(input->bf16 + to, alone->bf16 + from, OCT_UNIT_COLUMNS * sizeof *alone->bf16);
            memcpy(input->rounded + to, alone->rounded + from, OCT_UNIT_COLUMNS * sizeof *alone->rounded);
        }
        if (forms & OCT_FORM_INT8) {
            memcpy(input->codes + to, alone->codes + from, OCT_UNIT_COLUMNS);
            input->groups[at] = alone->groups[unit];
        }
    }
}

const oct_activations *oct_cpu_prepare(oct_cpu_backend *backend, const float *x, int64_t stride, int64_t size,
                                       const float *norm, const int32_t *selected, int32_t columns, int forms,
                                       int32_t thread, int32_t threads)
{
    oct_cpu_scratch *scratch = &backend->scratch[thread];
    oct_activations *alone = &scratch->input, *input = &scratch->shared;
    if (columns == 1) {
        prepare_column(backend, alone, x + (selected == NULL ? 0 : selected[0]) * stride, size, norm, forms,
                       scratch->row);
        return alone;
    }
    input->width = oct_pad_columns(size);
    input->columns = columns;
    oct_team_barrier(backend->team); // the last operation's readers of the shared input are done
    for (int32_t c = thread; c < columns; c += threads) {
        prepare_column(backend, alone, x + (selected == NULL ? c : selected[c]) * stride, size, norm, forms,
                       scratch->row);
        pack_column(input, c, alone, forms);
    }
    oct_team_barrier(backend->team);
    return input;
}

bool oct_cpu_exchange(oct_cpu_backend *backend, int32_t thread)
{
    oct_team_barrier(backend->team);
    if (backend->exchange->ranks == 1)
        return true;
    if (thread == 0) {
        // Not among the figures of reductions: it also waits for ranks that begin the step later.
        const uint64_t begin = backend->times != NULL ? (uint64_t)oct_now_ns() : 0;
        const oct_status status = backend->exchange->round(backend->exchange->context, backend->round_bytes);
        if (status != OCT_OK)
            atomic_store(&backend->failed, (int)status);
        if (backend->times != NULL)
            backend->exchange_ns += (uint64_t)oct_now_ns() - begin;
    }
    oct_team_barrier(backend->team);
    return atomic_load_explicit(&backend->failed, memory_order_relaxed) == OCT_OK;
}

// A token's row from the rank that holds it; ranks that do not leave the slot as it is.
static bool own_token(const oct_cpu_backend *backend, int32_t token)
{
    const oct_run tiles = backend->program->vocabulary_tiles;
    return token / OCT_TILE_ROWS >= tiles.begin && token / OCT_TILE_ROWS < tiles.end;
}

static int32_t token_owner(const oct_cpu_backend *backend, int32_t token)
{
    const oct_step_program *program = backend->program;
    const oct_partition partition = oct_model_vocabulary_partition(&program->model);
    for (int32_t rank = 0; rank < program->ranks; rank++) {
        const oct_run tiles = oct_partition_units(&partition, program->ranks, rank);
        if (token / OCT_TILE_ROWS >= tiles.begin && token / OCT_TILE_ROWS < tiles.end)
            return rank;
    }
    return 0;
}

bool oct_cpu_embed(oct_cpu_backend *backend, const oct_operation *operation, int32_t thread, int32_t threads)
{
    const oct_step *step = backend->step;
    const oct_cpu_matrix *table = &backend->matrices[operation->matrices[0]];
    const int32_t hidden = backend->program->model.hidden;
    const oct_exchange *exchange = backend->exchange;
    const bool alone = exchange->ranks == 1;
    float *rows = alone ? backend->residual : exchange->slot(exchange->context, thread);
    const int32_t first = backend->program->vocabulary_tiles.begin * OCT_TILE_ROWS;
    for (int32_t c = thread; c < step->columns; c += threads) {
        if (!own_token(backend, step->tokens[c]))
            continue;
        const int32_t row = step->tokens[c] - first;
        oct_strip_decode_row(table->encoding, table->data + (size_t)(row / OCT_TILE_ROWS) * table->strip_bytes, 0,
                             hidden, row % OCT_TILE_ROWS, rows + (int64_t)c * hidden);
    }
    if (thread == 0)
        for (int32_t rank = 0; rank < exchange->ranks; rank++)
            backend->round_bytes[rank] = (size_t)step->columns * (size_t)hidden * sizeof(float);
    if (!oct_cpu_exchange(backend, thread))
        return false;
    if (!alone)
        for (int32_t c = thread; c < step->columns; c += threads) {
            const float *peer = exchange->peer(exchange->context, thread, token_owner(backend, step->tokens[c]));
            memcpy(backend->residual + (int64_t)c * hidden, peer + (int64_t)c * hidden,
                   (size_t)hidden * sizeof(float));
        }
    oct_team_barrier(backend->team);
    return true;
}

const uint8_t *oct_cpu_next_weights(const oct_cpu_backend *backend, const oct_operation *operation, int32_t thread,
                                    int32_t threads)
{
    const oct_operation *end = backend->program->operations + backend->program->operation_count;
    do
        if (++operation == end)
            return NULL;
    while (operation->matrices[0] < 0);
    const oct_cpu_matrix *matrix = &backend->matrices[operation->matrices[0]];
    int32_t strips = matrix->strips;
    for (int i = 1; operation->kind == OCT_OP_QKV && i < OCT_OPERATION_MATRICES; i++)
        strips += backend->matrices[operation->matrices[i]].strips;
    int32_t strip = oct_thread_run(strips, thread, threads).begin;
    for (int i = 1; strip >= matrix->strips && operation->kind == OCT_OP_QKV && i < OCT_OPERATION_MATRICES; i++) {
        strip -= matrix->strips;
        matrix = &backend->matrices[operation->matrices[i]];
    }
    return matrix->data + (size_t)strip * matrix->strip_bytes;
}

enum { SHOWN_STRIPS = 64 };

void oct_cpu_run_dot(const oct_cpu_matrix *matrix, int32_t strip, int32_t strips, const oct_activations *input,
                     const uint8_t *next, float *out, size_t out_stride)
{
    const int32_t columns = input->columns;
    for (; columns > OCT_SHOWN_COLUMNS && strips > SHOWN_STRIPS; strip += SHOWN_STRIPS, strips -= SHOWN_STRIPS) {
        oct_cpu_run_dot(matrix, strip, SHOWN_STRIPS, input, NULL, out, out_stride);
        out += SHOWN_STRIPS * OCT_TILE_ROWS;
    }
    if (columns > OCT_SHOWN_COLUMNS)
        oct_progress_bump();
    static const uint8_t no_merges[1] = {0};
    const oct_dot dot = {
        .weights = matrix->data + (size_t)strip * matrix->strip_bytes,
        .strip_bytes = matrix->strip_bytes,
        .strips = strips,
        .granules = matrix->granules,
        .merges = no_merges,
        .granule_count = 1,
        .nodes = 1,
        .next = next,
        .x = input,
        .out = out,
        .out_stride = out_stride,
    };
    matrix->dot(&dot);
}

bool oct_cpu_qkv(oct_cpu_backend *backend, const oct_operation *operation, int32_t thread, int32_t threads)
{
    const int32_t columns = backend->step->columns;
    const int32_t hidden = backend->program->model.hidden;
    const oct_cpu_matrix *parts[OCT_OPERATION_MATRICES];
    int forms = 0;
    int32_t total = 0;
    for (int i = 0; i < OCT_OPERATION_MATRICES; i++) {
        parts[i] = &backend->matrices[operation->matrices[i]];
        forms |= (int)parts[i]->form;
        total += parts[i]->strips;
    }
    const oct_activations *input = oct_cpu_prepare(backend, backend->residual, hidden, hidden,
                                                   backend->vectors[operation->vectors[0]], NULL, columns, forms,
                                                   thread, threads);
    const oct_run mine = oct_thread_run(total, thread, threads);
    const uint8_t *next = oct_cpu_next_weights(backend, operation, thread, threads);
    int32_t before = 0; // strips of the parts before this one; q, k and v stand one after another in qkv
    for (int i = 0; i < OCT_OPERATION_MATRICES; i++) {
        const int32_t begin = mine.begin > before ? mine.begin - before : 0;
        const int32_t end = mine.end - before < parts[i]->strips ? mine.end - before : parts[i]->strips;
        if (begin < end)
            oct_cpu_run_dot(parts[i], begin, end - begin, input,
                            before + end < mine.end ? parts[i + 1]->data : next,
                            backend->qkv + (before + begin) * OCT_TILE_ROWS, (size_t)backend->program->qkv_width);
        before += parts[i]->strips;
    }
    oct_team_barrier(backend->team);
    return true;
}

bool oct_cpu_gate_up(oct_cpu_backend *backend, const oct_operation *operation, int32_t thread, int32_t threads)
{
    const int32_t columns = backend->step->columns;
    const int32_t hidden = backend->program->model.hidden;
    const oct_cpu_matrix *gate = &backend->matrices[operation->matrices[0]];
    const oct_cpu_matrix *up = &backend->matrices[operation->matrices[1]];
    const oct_activations *input =
        oct_cpu_prepare(backend, backend->residual, hidden, hidden, backend->vectors[operation->vectors[0]], NULL,
                        columns, (int)(gate->form | up->form), thread, threads);
    const oct_run mine = oct_thread_run(gate->strips, thread, threads);
    const int32_t at_a_time = oct_cpu_strips_at_a_time(columns);
    const uint8_t *next = oct_cpu_next_weights(backend, operation, thread, threads);
    float *gates = backend->scratch[thread].tiles;
    for (int32_t strip = mine.begin; strip < mine.end; strip += at_a_time) {
        const int32_t strips = mine.end - strip < at_a_time ? mine.end - strip : at_a_time;
        const size_t rows = (size_t)strips * OCT_TILE_ROWS;
        float *ups = gates + rows * (size_t)columns;
        const uint8_t *more =
            strip + strips == mine.end ? next : gate->data + (size_t)(strip + strips) * gate->strip_bytes;
        oct_cpu_run_dot(gate, strip, strips, input, up->data + (size_t)strip * up->strip_bytes, gates, rows);
        oct_cpu_run_dot(up, strip, strips, input, more, ups, rows);
        for (int32_t c = 0; c < columns; c++)
            backend->kernels->silu_multiply(gates + (size_t)c * rows, ups + (size_t)c * rows, (int64_t)rows,
                                            backend->inner + c * backend->program->inner_width + strip * OCT_TILE_ROWS);
    }
    oct_team_barrier(backend->team);
    return true;
}
