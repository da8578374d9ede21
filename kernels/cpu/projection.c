// The projections along K (attention output, FFN down) on the CPU: partial sums of the rank's granules. What follows
// between several ranks is in reduction.c.
#include <string.h>

#include "kernels/cpu/executor.h"
#include "runtime/progress.h"

// What a projection along K is made of: the granules of this rank, in ascending K, and the reduction tree.
typedef struct projection {
    const oct_cpu_matrix *matrix;
    const oct_tree_schedule *tree;
    const oct_activations *input; // of all columns
    const uint8_t *next; // weights that the thread reads after the projection, or NULL
    oct_run part;        // several ranks: the strips that are published together
    float *nodes; // [nodes][columns][rows of the part] in the exchange's slot; NULL: one rank, one node, the root
} projection;

// Where the value at place `top` of the stack of partial vectors lies: [columns][rows of the strips]. The places that
// are left in the end are the nodes; with one column they are in the slot from the start, so that the lines which the
// other ranks have read are ours again by the time when the last sum goes there.
static float *stack_level(const projection *p, float *stack, int32_t top, int32_t strip, size_t level)
{
    return p->nodes != NULL && p->input->columns == 1 && top < p->tree->nodes
               ? p->nodes + ((int64_t)top * (p->part.end - p->part.begin) + strip - p->part.begin) * OCT_TILE_ROWS
               : stack + (size_t)top * level;
}

// One rank: its one node is the root. For the panel of columns from `begin` on.
static void add_root(oct_cpu_backend *backend, const projection *p, int32_t strip, int32_t strips, int32_t begin,
                     int32_t columns, const float *stack)
{
    const int64_t rows = (int64_t)strips * OCT_TILE_ROWS;
    float *residual = backend->residual + begin * p->matrix->rows + (int64_t)strip * OCT_TILE_ROWS;
    for (int32_t c = 0; c < columns; c++)
        backend->kernels->add(residual + c * p->matrix->rows, stack + c * rows, rows);
}

// Several columns: takes the nodes of a panel from the stack into the slot.
static void copy_nodes(const projection *p, int32_t strip, int32_t strips, int32_t begin, int32_t columns,
                       const float *stack)
{
    const int64_t rows = (int64_t)strips * OCT_TILE_ROWS, stride = (p->part.end - p->part.begin) * OCT_TILE_ROWS;
    float *to = p->nodes + begin * stride + (int64_t)(strip - p->part.begin) * OCT_TILE_ROWS;
    for (int32_t node = 0; node < p->tree->nodes; node++)
        for (int32_t c = 0; c < columns; c++)
            memcpy(to + ((int64_t)node * p->input->columns + c) * stride, stack + (node * columns + c) * rows,
                   (size_t)rows * sizeof(float));
}

// Adds up the granules of `strips` strips for the panel of columns from `begin` on, with a stack of partial vectors
// [depth][columns][rows] in scratch. (The rows of the residual are a multiple of 32: no strip is padded.)
static void project_strips(oct_cpu_backend *backend, const projection *p, int32_t strip, int32_t strips, int32_t begin,
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
    if (p->nodes == NULL)
        add_root(backend, p, strip, strips, begin, columns, stack);
    else if (p->input->columns > 1)
        copy_nodes(p, strip, strips, begin, columns, stack);
}

static void project_run(oct_cpu_backend *backend, const projection *p, oct_run strips, int32_t thread)
{
    const int32_t columns = p->input->columns;
    const int32_t at_a_time = oct_cpu_strips_at_a_time(columns < OCT_PANEL_COLUMNS ? columns : OCT_PANEL_COLUMNS);
    for (int32_t strip = strips.begin; strip < strips.end && p->tree->leaves > 0; strip += at_a_time)
        for (int32_t begin = 0; begin < columns; begin += OCT_PANEL_COLUMNS)
            project_strips(backend, p, strip, strips.end - strip < at_a_time ? strips.end - strip : at_a_time, begin,
                           backend->scratch[thread].tiles);
}

static bool project(oct_cpu_backend *backend, const oct_operation *operation, const float *x, int64_t stride,
                    const oct_tree_schedule *tree, const oct_tree_finish *finish, int32_t thread, int32_t threads)
{
    projection p = {.matrix = &backend->matrices[operation->matrices[0]],
                    .tree = tree,
                    .next = oct_cpu_next_weights(backend, operation, thread, threads)};
    p.input = oct_cpu_prepare(backend, x, stride, stride, NULL, NULL, backend->step->columns, (int)p.matrix->form,
                              thread, threads);
    if (backend->exchange->ranks == 1) {
        project_run(backend, &p, oct_thread_run(p.matrix->strips, thread, threads), thread);
    } else {
        oct_reduction reduction;
        oct_cpu_plan_reduction(backend, finish, p.matrix->rows, thread, threads, &reduction);
        for (int32_t part = 0; part < reduction.parts; part++) {
            p.part = reduction.part[part];
            p.nodes = oct_cpu_part_nodes(backend, &reduction, part, thread);
            project_run(backend, &p, reduction.mine[part], thread);
            oct_cpu_publish_part(backend, &reduction, part, thread);
        }
        oct_cpu_reduce(backend, &reduction, thread);
    }
    oct_team_barrier(backend->team); // the next operation reads the whole residual
    return atomic_load_explicit(&backend->failed, memory_order_relaxed) == OCT_OK;
}

bool oct_cpu_output(oct_cpu_backend *backend, const oct_operation *operation, int32_t thread, int32_t threads)
{
    return project(backend, operation, backend->attention, backend->program->attention_width,
                   &backend->program->attention_tree, &backend->program->attention_finish, thread, threads);
}

bool oct_cpu_down(oct_cpu_backend *backend, const oct_operation *operation, int32_t thread, int32_t threads)
{
    return project(backend, operation, backend->inner, backend->program->inner_width, &backend->program->ffn_tree,
                   &backend->program->ffn_finish, thread, threads);
}
