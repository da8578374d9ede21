// The vocabulary projection on the CPU.
#include "kernels/cpu/executor.h"

bool oct_cpu_head(oct_backend *backend, const oct_operation *operation, int32_t thread, int32_t threads)
{
    const oct_step *step = backend->step;
    if (step->logit_columns == 0)
        return true;
    const int32_t hidden = backend->program->model.hidden;
    const oct_cpu_matrix *head = &backend->matrices[operation->matrices[0]];
    const oct_activations *input = oct_cpu_prepare(backend, backend->residual, hidden, hidden,
                                                   backend->vectors[operation->vectors[0]], step->logit_column,
                                                   step->logit_columns, (int)head->form, thread, threads);
    const oct_run mine = oct_thread_run(head->strips, thread, threads);
    if (mine.begin < mine.end)
        oct_cpu_run_dot(head, mine.begin, mine.end - mine.begin, input, NULL,
                        backend->logits + mine.begin * OCT_TILE_ROWS, (size_t)backend->logits_stride);
    oct_team_barrier(backend->team);
    return true;
}
