// What `octet bench` measures: cells, each a kind of step, and their two forms.
#ifndef OCT_LAUNCH_BENCH_H
#define OCT_LAUNCH_BENCH_H

#include "launch/session.h"

// Steps in alternation with touches of their bytes, a repeat.
enum { OCT_BENCH_PAIRS = 24 };

typedef struct oct_bench_cell {
    const char *kind;     // "prefill", "decode", "columns" or "batch"
    int32_t columns;      // tokens of one sequence in a step
    int32_t batch;        // sequences in a step
    oct_figures figures;  // of all repeats; prefill: no steps
    double *tokens_per_s; // [repeats] owned
    int32_t repeats;
    // Steps in alternation with a touch of their bytes; decode only.
    double *paired_s, *touch_s; // [pairs] owned
    int32_t pairs;
    oct_operation_times times; // of all repeats, where --operations asks
    int64_t timed_steps;
} oct_bench_cell;

// Room for what `repeats` repeats of `steps` steps, each with `pairs` touches, put into a cell. Errors:
// OCT_ERR_MACHINE.
oct_status oct_bench_cell_create(oct_bench_cell *cell, const char *kind, int32_t columns, int32_t batch,
                                 int32_t repeats, int64_t steps, int32_t pairs);
void oct_bench_cell_free(oct_bench_cell *cell);

// Writes the table to stdout, with --operations one more for each cell. `bandwidth`: bytes a second. Errors:
// OCT_ERR_FILE.
oct_status oct_bench_print(const oct_session *session, const oct_bench_cell *cells, int32_t count, double bandwidth);

// Writes the array of --json and closes the file. Errors: OCT_ERR_FILE.
oct_status oct_bench_write(const oct_session *session, const oct_bench_cell *cells, int32_t count, FILE *file);

#endif
