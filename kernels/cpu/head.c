// The vocabulary projection on the CPU, and the candidates of the columns that are sampled: each thread looks at the
// logits that it has just computed.
#include <math.h>
#include <string.h>

#include "kernels/cpu/executor.h"

// The rows of this rank's vocabulary that a thread computes and samples.
static oct_run rows_of(const oct_cpu_backend *backend, int32_t thread)
{
    const oct_step_program *program = backend->program;
    const oct_cpu_matrix *head = &backend->matrices[program->operations[program->operation_count - 1].matrices[0]];
    const oct_run strips = oct_thread_run(head->strips, thread, backend->options.cpu.threads);
    const int32_t rows = (int32_t)head->rows, begin = strips.begin * OCT_TILE_ROWS, end = strips.end * OCT_TILE_ROWS;
    return (oct_run){begin < rows ? begin : rows, end < rows ? end : rows};
}

static oct_candidates *part_of(const oct_cpu_backend *backend, int32_t i, int32_t thread)
{
    return backend->candidates + (int64_t)i * backend->options.cpu.threads + thread;
}

static void make_part(oct_cpu_backend *backend, int32_t i, int32_t thread, float maximum)
{
    const oct_column_sampling *column = &backend->step->samplings[i];
    const oct_run rows = rows_of(backend, thread);
    oct_candidates_make(part_of(backend, i, thread), column->sampling, column->position,
                        backend->logits + i * backend->program->logits_width + rows.begin,
                        backend->program->vocabulary_tiles.begin * OCT_TILE_ROWS + rows.begin, rows.end - rows.begin,
                        maximum, NULL, oct_sampling_list_size(column->sampling));
}

static void sample_part(oct_cpu_backend *backend, int32_t i, int32_t thread)
{
    const oct_column_sampling *column = &backend->step->samplings[i];
    if (column->sampling == NULL)
        return;
    const oct_run rows = rows_of(backend, thread);
    float *logits = backend->logits + i * backend->program->logits_width + rows.begin;
    oct_sampling_adjust(column->sampling, column->history, column->history_length, logits,
                        backend->program->vocabulary_tiles.begin * OCT_TILE_ROWS + rows.begin, rows.end - rows.begin);
    if (oct_sampling_needs_maximum(column->sampling))
        backend->maxima[(int64_t)i * backend->options.cpu.threads + thread] =
            oct_sampling_maximum(logits, rows.end - rows.begin);
    else
        make_part(backend, i, thread, 0);
}

bool oct_cpu_head(oct_cpu_backend *backend, const oct_operation *operation, int32_t thread, int32_t threads)
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
                        backend->logits + mine.begin * OCT_TILE_ROWS, (size_t)backend->program->logits_width);
    for (int32_t i = 0; step->samplings != NULL && i < step->logit_columns; i++)
        sample_part(backend, i, thread);
    oct_team_barrier(backend->team);
    return true;
}

oct_status oct_cpu_logits(oct_backend *base, int32_t i, float *logits)
{
    const oct_cpu_backend *backend = oct_cpu_backend_of(base);
    const oct_step_program *program = backend->program;
    const oct_cpu_matrix *head = &backend->matrices[program->operations[program->operation_count - 1].matrices[0]];
    memcpy(logits, backend->logits + i * program->logits_width, (size_t)head->rows * sizeof *logits);
    return OCT_OK;
}

float oct_cpu_maximum(const oct_backend *base, int32_t i)
{
    const oct_cpu_backend *backend = oct_cpu_backend_of(base);
    const float *maxima = backend->maxima + (int64_t)i * backend->options.cpu.threads;
    float maximum = -INFINITY;
    for (int32_t thread = 0; thread < backend->options.cpu.threads; thread++)
        maximum = maxima[thread] > maximum ? maxima[thread] : maximum;
    return maximum;
}

typedef struct second_pass {
    oct_cpu_backend *backend;
    const float *maxima;
} second_pass;

static void make_parts(void *context, int32_t thread, int32_t threads)
{
    (void)threads;
    const second_pass *pass = context;
    const oct_step *step = pass->backend->step;
    for (int32_t i = 0; i < step->logit_columns; i++)
        if (step->samplings[i].sampling != NULL && oct_sampling_needs_maximum(step->samplings[i].sampling))
            make_part(pass->backend, i, thread, pass->maxima[i]);
}

oct_status oct_cpu_make_candidates(oct_backend *base, const float *maxima)
{
    oct_cpu_backend *backend = oct_cpu_backend_of(base);
    second_pass pass = {.backend = backend, .maxima = maxima};
    oct_team_run(backend->team, make_parts, &pass);
    return OCT_OK;
}

void oct_cpu_candidates(const oct_backend *base, int32_t i, oct_candidates *candidates)
{
    const oct_cpu_backend *backend = oct_cpu_backend_of(base);
    const int32_t threads = backend->options.cpu.threads;
    const int32_t list_size = oct_sampling_list_size(backend->step->samplings[i].sampling);
    const oct_candidates *lists[OCT_MAX_CANDIDATE_LISTS];
    oct_candidates joined[2]; // in turn, where there are more threads than lists that can be joined at once
    for (int32_t done = 0, turn = 0; done < threads; turn ^= 1) {
        int32_t count = 0;
        if (done > 0)
            lists[count++] = &joined[turn ^ 1];
        while (count < OCT_MAX_CANDIDATE_LISTS && done < threads)
            lists[count++] = part_of(backend, i, done++);
        oct_candidates_merge(done < threads ? &joined[turn] : candidates, lists, count, list_size);
    }
}
