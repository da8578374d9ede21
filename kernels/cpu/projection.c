// The projections along K (attention output, FFN down) on the CPU: partial sums of the rank's granules, the reduction
// tree over all ranks, and the residual.
#include <string.h>

#include "kernels/cpu/executor.h"
#include "runtime/progress.h"

// What a projection along K is made of: the granules of this rank, in ascending K, and the reduction tree.
typedef struct projection {
    const oct_cpu_matrix *matrix;
    const oct_tree_schedule *tree;
    const oct_activations *input; // of all columns
    const uint8_t *next; // weights that the thread reads after the projection, or NULL
    float *nodes;        // [nodes][columns][hidden] in the exchange's slot; NULL: there is one rank, its node is the root
} projection;

// Where the value at place `top` of the stack of partial vectors lies: [columns][rows of the strips]. The places that
// are left in the end are the nodes; with one column they are in the slot from the start, so that the lines which the
// other ranks have read are ours again by the time when the last sum goes there.
static float *stack_level(const projection *p, float *stack, int32_t top, int32_t strip, size_t level)
{
    return p->nodes != NULL && p->input->columns == 1 && top < p->tree->nodes
               ? p->nodes + top * p->matrix->rows + (int64_t)strip * OCT_TILE_ROWS
               : stack + (size_t)top * level;
}

// Takes what is left on the stack of the columns from `begin` on: into the slot, or at once to the residual.
static void keep_nodes(oct_backend *backend, const projection *p, int32_t strip, int32_t strips, int32_t begin,
                       int32_t columns, const float *stack)
{
    const int64_t hidden = p->matrix->rows, row = (int64_t)strip * OCT_TILE_ROWS;
    const size_t rows = (size_t)strips * OCT_TILE_ROWS, level = rows * (size_t)columns;
    for (int32_t c = 0; p->nodes == NULL && c < columns; c++)
        backend->kernels->add(backend->residual + (begin + c) * hidden + row, stack + (size_t)c * rows, (int64_t)rows);
    if (p->nodes == NULL || p->input->columns == 1)
        return;
    for (int32_t node = 0; node < p->tree->nodes; node++)
        for (int32_t c = 0; c < columns; c++)
            memcpy(p->nodes + ((int64_t)node * p->input->columns + begin + c) * hidden + row,
                   stack + (size_t)node * level + (size_t)c * rows, rows * sizeof(float));
}

// Adds up the granules of `strips` strips for the panel of columns from `begin` on, with a stack of partial vectors
// [depth][columns][rows] in scratch. (The rows of the residual are a multiple of 32: no strip is padded.)
static void project_strips(oct_backend *backend, const projection *p, int32_t strip, int32_t strips, int32_t begin,
                           float *stack)
{
    const oct_activations panel = oct_activation_panel(p->input, begin);
    const int32_t columns = panel.columns;
    const size_t rows = (size_t)strips * OCT_TILE_ROWS, level = rows * (size_t)columns;
    int32_t top = 0;
    for (int32_t i = 0; i < p->tree->leaves; i++) {
        const oct_cpu_granule *granule = &p->matrix->granules[i], *next = i + 1 < p->tree->leaves ? granule + 1 : NULL;
        const oct_dot dot = {
            .weights = granule->weights + (size_t)strip * granule->strip_bytes,
            .strip_bytes = granule->strip_bytes,
            .strips = strips,
            .first = granule->first,
            .last = granule->last,
            .next = next == NULL ? p->next : next->weights + (size_t)strip * next->strip_bytes,
            .x = &panel,
            .x_offset = granule->first - p->matrix->granules[0].first,
            .out = stack_level(p, stack, top, strip, level),
            .out_stride = rows,
        };
        p->matrix->dot(&dot);
        top++;
        for (int merge = 0; merge < p->tree->merges[i]; merge++, top--)
            backend->kernels->add(stack_level(p, stack, top - 2, strip, level),
                                  stack_level(p, stack, top - 1, strip, level), (int64_t)level);
    }
    if (p->input->columns > OCT_SHOWN_COLUMNS)
        oct_progress_bump();
    keep_nodes(backend, p, strip, strips, begin, columns, stack);
}

// Of so many rounds one is timed: two reads of the clock, which wait for everything before them, take 200 ns and a round
// of a small model 1 µs. Odd, so that both kinds of projections have their turn.
enum { ROUNDS_A_TIMED_ONE = 9 };

// Waits for the nodes of the other ranks: those of the same rows where every thread can do so for itself.
static bool exchange_nodes(oct_backend *backend, const oct_tree_finish *finish, int64_t elements, int32_t thread)
{
    const oct_exchange *exchange = backend->exchange;
    if (exchange->team_round == NULL) {
        for (int32_t rank = 0; thread == 0 && rank < exchange->ranks; rank++)
            backend->round_bytes[rank] = (size_t)finish->nodes_of_rank[rank] * (size_t)elements * sizeof(float);
        return oct_cpu_exchange(backend, thread);
    }
    const bool timed =
        thread == 0 && (backend->times != NULL || backend->team_rounds++ % ROUNDS_A_TIMED_ONE == 0);
    const uint64_t begin = timed ? (uint64_t)oct_now_ns() : 0;
    const oct_status status = exchange->team_round(exchange->context, thread);
    if (status != OCT_OK)
        atomic_store(&backend->failed, (int)status);
    if (timed) {
        backend->exchange_ns += (uint64_t)oct_now_ns() - begin;
        backend->exchange_rounds++;
    }
    return status == OCT_OK;
}

void oct_cpu_reduce(oct_backend *backend, const oct_tree_finish *finish, int64_t hidden, oct_run strips, int32_t thread)
{
    const oct_exchange *exchange = backend->exchange;
    const int32_t columns = backend->step->columns;
    const int64_t elements = (int64_t)columns * hidden, row = (int64_t)strips.begin * OCT_TILE_ROWS;
    const float *nodes[OCT_MAX_GRANULES];
    int32_t count = 0;
    if (!exchange_nodes(backend, finish, elements, thread))
        return;
    for (int32_t rank = 0; rank < exchange->ranks; rank++) {
        const float *theirs = exchange->peer(exchange->context, thread, rank);
        for (int32_t i = 0; i < finish->nodes_of_rank[rank]; i++)
            nodes[count++] = theirs + i * elements + row;
    }
    for (int32_t c = 0; c < columns; c++) {
        backend->kernels->add_tree(backend->residual + c * hidden + row, nodes, finish->merges, count,
                                   (int64_t)(strips.end - strips.begin) * OCT_TILE_ROWS);
        for (int32_t node = 0; node < count; node++)
            nodes[node] += hidden;
    }
}

static bool project(oct_backend *backend, const oct_operation *operation, const float *x, int64_t stride,
                    const oct_tree_schedule *tree, const oct_tree_finish *finish, int32_t thread, int32_t threads)
{
    const int32_t columns = backend->step->columns;
    const oct_exchange *exchange = backend->exchange;
    projection p = {.matrix = &backend->matrices[operation->matrices[0]],
                    .tree = tree,
                    .next = oct_cpu_next_weights(backend, operation, thread, threads)};
    p.input = oct_cpu_prepare(backend, x, stride, stride, NULL, NULL, columns, (int)p.matrix->form, thread, threads);
    p.nodes = exchange->ranks == 1 ? NULL : exchange->slot(exchange->context, thread);
    const oct_run mine = oct_thread_run(p.matrix->strips, thread, threads);
    const int32_t at_a_time = oct_cpu_strips_at_a_time(columns < OCT_PANEL_COLUMNS ? columns : OCT_PANEL_COLUMNS);
    for (int32_t strip = mine.begin; strip < mine.end && tree->leaves > 0; strip += at_a_time)
        for (int32_t begin = 0; begin < columns; begin += OCT_PANEL_COLUMNS)
            project_strips(backend, &p, strip, mine.end - strip < at_a_time ? mine.end - strip : at_a_time, begin,
                           backend->scratch[thread].tiles);
    if (exchange->ranks > 1)
        oct_cpu_reduce(backend, finish, p.matrix->rows, mine, thread);
    oct_team_barrier(backend->team); // the next operation reads the whole residual
    return atomic_load_explicit(&backend->failed, memory_order_relaxed) == OCT_OK;
}

bool oct_cpu_output(oct_backend *backend, const oct_operation *operation, int32_t thread, int32_t threads)
{
    return project(backend, operation, backend->attention, backend->attention_width,
                   &backend->program->attention_tree, &backend->program->attention_finish, thread, threads);
}

bool oct_cpu_down(oct_backend *backend, const oct_operation *operation, int32_t thread, int32_t threads)
{
    return project(backend, operation, backend->inner, backend->inner_width, &backend->program->ffn_tree,
                   &backend->program->ffn_finish, thread, threads);
}
