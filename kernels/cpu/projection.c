// The projections along K (attention output, FFN down) on the CPU: partial sums of the rank's granules, the reduction
// tree over all ranks, and the residual.
#include <string.h>

#include "kernels/cpu/executor.h"
#include "runtime/progress.h"

// What a projection along K is made of: the granules of this rank, in ascending K, and the reduction tree.
typedef struct projection {
    const oct_cpu_matrix *matrix;
    const oct_program_matrix *shard;
    const oct_tree_schedule *tree;
    const oct_tree_finish *finish;
    const oct_activations *input;
} projection;

// Adds up the granules of `strips` strips: a stack of partial vectors [depth][columns][rows] in scratch; what is
// left on it are the nodes that this rank publishes.
static void project_strips(oct_backend *backend, const projection *p, int32_t strip, int32_t strips, float *stack,
                           float *nodes)
{
    const oct_partition *partition = &p->shard->spec.partition;
    const int32_t columns = backend->step->columns;
    const size_t rows = (size_t)strips * OCT_TILE_ROWS, level = rows * (size_t)columns;
    const int64_t hidden = p->matrix->rows;
    const int64_t origin = (int64_t)p->shard->units.begin * partition->unit_size;
    const uint8_t *weights = p->matrix->data;
    int32_t top = 0;
    for (int32_t i = 0; i < p->tree->leaves; i++) {
        const int32_t granule = p->shard->granules.begin + i;
        const int64_t first = (int64_t)oct_granule_unit(partition, granule) * partition->unit_size;
        int64_t last = (int64_t)oct_granule_unit(partition, granule + 1) * partition->unit_size;
        last = last < p->matrix->columns ? last : p->matrix->columns;
        const size_t strip_bytes = oct_strip_bytes(p->matrix->encoding, first, last);
        const oct_dot dot = {.weights = weights + (size_t)strip * strip_bytes,
                             .strip_bytes = strip_bytes,
                             .strips = strips,
                             .first = first,
                             .last = last,
                             .x = p->input,
                             .x_offset = first - origin,
                             .out = stack + (size_t)top * level,
                             .out_stride = rows};
        p->matrix->dot(&dot);
        top++;
        for (int merge = 0; merge < p->tree->merges[i]; merge++, top--)
            backend->kernels->add(stack + (size_t)(top - 2) * level, stack + (size_t)(top - 1) * level,
                                  (int64_t)level);
        weights += (size_t)p->matrix->strips * strip_bytes;
    }
    if (columns > OCT_SHOWN_COLUMNS)
        oct_progress_bump();
    const int64_t row = (int64_t)strip * OCT_TILE_ROWS;
    const size_t whole = (size_t)(row + (int64_t)rows <= hidden ? (int64_t)rows : hidden - row);
    for (int32_t node = 0; node < top; node++)
        for (int32_t c = 0; c < columns; c++)
            memcpy(nodes + ((int64_t)node * columns + c) * hidden + row,
                   stack + (size_t)node * level + (size_t)c * rows, whole * sizeof(float));
}

enum { FINISH_FLOATS = 256 };

// Adds the nodes of all ranks to the root, and the root to the residual, for elements [begin, end).
static void finish_tree(oct_backend *backend, const projection *p, const float *own, int64_t begin, int64_t end)
{
    float stack[OCT_MAX_NODES][FINISH_FLOATS];
    const int64_t elements = (int64_t)backend->step->columns * p->matrix->rows;
    const oct_exchange *exchange = backend->exchange;
    for (int64_t at = begin; at < end; at += FINISH_FLOATS) {
        const int64_t n = end - at < FINISH_FLOATS ? end - at : FINISH_FLOATS;
        int32_t top = 0, node = 0;
        for (int32_t rank = 0; rank < exchange->ranks; rank++) {
            const float *nodes = exchange->ranks == 1 ? own : exchange->peer(exchange->context, rank);
            for (int32_t i = 0; i < p->finish->nodes_of_rank[rank]; i++, node++) {
                memcpy(stack[top++], nodes + i * elements + at, (size_t)n * sizeof(float));
                for (int merge = 0; merge < p->finish->merges[node]; merge++, top--)
                    backend->kernels->add(stack[top - 2], stack[top - 1], n);
            }
        }
        backend->kernels->add(backend->residual + at, stack[0], n);
    }
}

static bool project(oct_backend *backend, const oct_operation *operation, const float *x, int64_t stride,
                    const oct_tree_schedule *tree, const oct_tree_finish *finish, int32_t thread, int32_t threads)
{
    const int32_t columns = backend->step->columns;
    projection p = {.matrix = &backend->matrices[operation->matrices[0]],
                    .shard = &backend->program->matrices[operation->matrices[0]],
                    .tree = tree,
                    .finish = finish};
    p.input = oct_cpu_prepare(backend, x, stride, stride, NULL, NULL, columns, (int)p.matrix->form, thread, threads);
    const oct_exchange *exchange = backend->exchange;
    float *nodes = exchange->slot(exchange->context);
    const oct_run mine = oct_thread_run(p.matrix->strips, thread, threads);
    const int32_t at_a_time = oct_cpu_strips_at_a_time(backend, columns);
    for (int32_t strip = mine.begin; strip < mine.end && tree->leaves > 0; strip += at_a_time)
        project_strips(backend, &p, strip, mine.end - strip < at_a_time ? mine.end - strip : at_a_time,
                       backend->scratch[thread].tiles, nodes);
    const int64_t elements = (int64_t)columns * p.matrix->rows;
    if (thread == 0)
        for (int32_t rank = 0; rank < exchange->ranks; rank++)
            backend->round_bytes[rank] = (size_t)finish->nodes_of_rank[rank] * (size_t)elements * sizeof(float);
    if (!oct_cpu_exchange(backend, thread))
        return false;
    const int64_t lines = (elements + 15) / 16; // whole cache lines a thread
    const oct_run part = oct_thread_run(lines, thread, threads);
    finish_tree(backend, &p, nodes, (int64_t)part.begin * 16,
                (int64_t)part.end * 16 < elements ? (int64_t)part.end * 16 : elements);
    oct_team_barrier(backend->team);
    return true;
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
