// Step descriptors for the device: how they are laid out, and how the host writes them.
#include "kernels/cuda/step.h"

#include <assert.h>
#include <string.h>

#include "runtime/page_table.h"

// Everything but the page ids, which come last, so that only those in use have to be sent.
static size_t fixed_bytes(int32_t columns, int32_t logit_columns)
{
    return (size_t)columns * (sizeof(oct_cuda_run) + 3 * sizeof(int32_t)) + (size_t)logit_columns * sizeof(int32_t);
}

size_t oct_cuda_step_bytes(int32_t columns, int32_t logit_columns, int32_t context)
{
    const size_t pages = (size_t)columns * (size_t)oct_page_count(context) + OCT_SPLIT_PAGES - 1;
    return fixed_bytes(columns, logit_columns) + pages * sizeof(int32_t);
}

oct_cuda_step oct_cuda_step_place(void *memory, int32_t columns, int32_t logit_columns)
{
    oct_cuda_step step = {.columns = columns, .logit_columns = logit_columns, .runs = memory};
    step.tokens = (int32_t *)(step.runs + columns);
    step.positions = step.tokens + columns;
    step.page_lists = step.positions + columns;
    step.logit_column = step.page_lists + columns;
    step.pages = step.logit_column + logit_columns;
    return step;
}

// The columns from `begin` on that have the same page table.
static int32_t count_neighbours(const oct_step *step, int32_t begin)
{
    int32_t end = begin + 1;
    while (end < step->columns && step->pages[end] == step->pages[begin])
        end++;
    return end - begin;
}

// The positions that the columns [begin, begin + columns) of a sequence look at.
static int32_t positions_of(const oct_step *step, int32_t begin, int32_t columns)
{
    return step->positions[begin + columns - 1] + 1;
}

// Columns of one sequence: their page ids, and their runs, the next of which is `run`. Returns the run behind them.
static int32_t write_sequence(const oct_cuda_step *to, const oct_step *step, int32_t begin, int32_t columns,
                              const oct_cuda_run_limits *limits, int32_t pages, int32_t run)
{
    const int32_t positions = positions_of(step, begin, columns), count = oct_page_count(positions);
    const int32_t run_columns = positions > limits->positions ? limits->columns_beyond : limits->columns_up_to;
    memcpy(to->pages + pages, step->pages[begin], (size_t)count * sizeof *to->pages);
    for (int32_t c = begin; c < begin + columns; c++) {
        assert(step->positions[c] == step->positions[begin] + c - begin);
        to->tokens[c] = step->tokens[c];
        to->positions[c] = step->positions[c];
        to->page_lists[c] = pages;
    }
    for (int32_t c = begin; c < begin + columns; c += run_columns) {
        const int32_t left = begin + columns - c, length = left < run_columns ? left : run_columns;
        to->runs[run++] = (oct_cuda_run){c, length, positions_of(step, c, length), pages, c + length - begin};
    }
    return run;
}

size_t oct_cuda_step_write(const oct_cuda_step *to, const oct_step *step, const oct_cuda_run_limits *limits)
{
    assert(step->columns <= to->columns && step->logit_columns <= to->logit_columns &&
           limits->columns_up_to > 0 && limits->columns_beyond > 0);
    int32_t run = 0, pages = 0;
    for (int32_t c = 0; c < step->columns;) {
        const int32_t columns = count_neighbours(step, c);
        run = write_sequence(to, step, c, columns, limits, pages, run);
        pages += oct_page_count(positions_of(step, c, columns));
        c += columns;
    }
    for (int32_t c = step->columns; c < to->columns; c++) {
        to->tokens[c] = to->positions[c] = -1;
        to->page_lists[c] = 0;
        to->runs[run++] = (oct_cuda_run){.column = c, .columns = 1};
    }
    while (run < to->columns)
        to->runs[run++] = (oct_cuda_run){.column = 0};
    for (int32_t i = 0; i < to->logit_columns; i++)
        to->logit_column[i] = i < step->logit_columns ? step->logit_column[i] : -1;
    return fixed_bytes(to->columns, to->logit_columns) + (size_t)pages * sizeof(int32_t);
}
