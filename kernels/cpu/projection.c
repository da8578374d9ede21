// The projections along K (attention output, FFN down) on the CPU: partial sums of the rank's granules. What follows
// between several ranks is in reduction.c.
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

// The strips [strip, strip + strips), which end the thread's run where `last`. Nodes go to the slot; of one rank, to
// tiles [columns][rows] and from there to the residual. (Its rows are a multiple of 32: no strip is padded.)
static void project_strips(oct_cpu_backend *backend, const projection *p, int32_t strip, int32_t strips, bool last,
                           float *tiles)
{
    const int32_t columns = p->input->columns;
    const int64_t rows = (int64_t)strips * OCT_TILE_ROWS;
    const int64_t stride = p->nodes == NULL ? rows : (int64_t)(p->part.end - p->part.begin) * OCT_TILE_ROWS;
    const uint8_t *weights = p->matrix->data + (size_t)strip * p->matrix->strip_bytes;
    const oct_dot dot = {
        .weights = weights,
        .strip_bytes = p->matrix->strip_bytes,
        .strips = strips,
        .granules = p->matrix->granules,
        .merges = p->tree->merges,
        .granule_count = p->tree->leaves,
        .nodes = p->tree->nodes,
        .next = last ? p->next : weights + (size_t)strips * p->matrix->strip_bytes,
        .x = p->input,
        .out = p->nodes == NULL ? tiles : p->nodes + (int64_t)(strip - p->part.begin) * OCT_TILE_ROWS,
        .out_stride = (size_t)stride,
        .node_stride = (size_t)(columns * stride),
    };
    p->matrix->dot(&dot);
    if (columns > OCT_SHOWN_COLUMNS)
        oct_progress_bump();
    float *residual = backend->residual + (int64_t)strip * OCT_TILE_ROWS;
    for (int32_t c = 0; c < columns && p->nodes == NULL; c++)
        backend->kernels->add(residual + c * p->matrix->rows, tiles + c * rows, rows);
}

static void project_run(oct_cpu_backend *backend, const projection *p, oct_run run, int32_t thread)
{
    const int32_t at_a_time = oct_cpu_strips_at_a_time(p->input->columns);
    for (int32_t strip = run.begin; strip < run.end && p->tree->leaves > 0; strip += at_a_time) {
        const bool last = strip + at_a_time >= run.end;
        project_strips(backend, p, strip, last ? run.end - strip : at_a_time, last, backend->scratch[thread].tiles);
    }
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
