// What a step of the CPU backend reads, by operation, and reading just that.
#include "kernels/cpu/executor.h"
#include "runtime/bandwidth.h"

static uint64_t matrix_bytes_of(const oct_cpu_backend *backend, int32_t i)
{
    return (uint64_t)backend->matrices[i].strips * backend->matrices[i].strip_bytes;
}

// An embedding of its own is read a row a token; one that is tied to the head, with the head.
static bool is_embedding_only(const oct_cpu_backend *backend, int32_t i)
{
    const oct_step_program *program = backend->program;
    const oct_operation *head = &program->operations[program->operation_count - 1];
    return i == program->operations[0].matrices[0] && i != head->matrices[0];
}

static uint64_t position_bytes(const oct_cpu_backend *backend)
{
    const oct_step_program *program = backend->program;
    return (uint64_t)(program->kv_heads.end - program->kv_heads.begin) * (uint64_t)program->model.layers *
           backend->page_elements / OCT_PAGE_POSITIONS * sizeof(uint16_t);
}

uint64_t oct_cpu_step_bytes(const oct_backend *base, int32_t columns, int64_t positions)
{
    const oct_cpu_backend *backend = oct_cpu_backend_of(base);
    uint64_t bytes = 0;
    for (int32_t i = 0; i < backend->program->matrix_count; i++)
        bytes += is_embedding_only(backend, i)
                     ? (uint64_t)columns * backend->matrices[i].strip_bytes / OCT_TILE_ROWS
                     : matrix_bytes_of(backend, i);
    return bytes + (uint64_t)columns * (uint64_t)positions * position_bytes(backend);
}

void oct_cpu_operation_bytes(const oct_backend *base, uint64_t *bytes)
{
    const oct_cpu_backend *backend = oct_cpu_backend_of(base);
    const oct_step_program *program = backend->program;
    for (int32_t i = 0; i < program->operation_count; i++) {
        const oct_operation *operation = &program->operations[i];
        for (int m = 0; m < OCT_OPERATION_MATRICES && operation->matrices[m] >= 0; m++)
            bytes[operation->kind] += operation->kind == OCT_OP_EMBED
                                          ? backend->matrices[operation->matrices[m]].strip_bytes / OCT_TILE_ROWS
                                          : matrix_bytes_of(backend, operation->matrices[m]);
    }
}

enum { LINE = 64 };

typedef struct touching {
    const uint8_t *data[2]; // weights, KV cache
    size_t bytes[2];
    int32_t streams;
} touching;

static void touch_part(void *context, int32_t thread, int32_t threads)
{
    const touching *work = context;
    static _Thread_local volatile uint64_t sink;
    for (int i = 0; i < 2; i++) {
        const oct_run lines = oct_thread_run((int64_t)(work->bytes[i] / LINE), thread, threads);
        sink = oct_read_touch(work->data[i] + (size_t)lines.begin * LINE,
                              (size_t)(lines.end - lines.begin) * LINE, work->streams);
    }
    (void)sink;
}

static size_t smallest(size_t a, size_t b)
{
    return a < b ? a : b;
}

oct_status oct_cpu_touch(oct_backend *base, size_t weight_bytes, int64_t positions, int32_t way)
{
    static const int32_t streams[OCT_TOUCH_WAYS] = {1, OCT_READ_STREAMS};
    oct_cpu_backend *backend = oct_cpu_backend_of(base);
    const uint8_t *begin = is_embedding_only(backend, 0) ? backend->matrices[1].data : backend->weights;
    const size_t step = (size_t)oct_cpu_step_bytes(base, 1, 0), kv = (size_t)positions * position_bytes(backend);
    const size_t there = (size_t)(backend->weights + backend->weights_bytes - begin);
    touching work = {.data = {begin, (const uint8_t *)backend->kv_cache},
                     .bytes = {smallest(there, smallest(weight_bytes, step)),
                               smallest(kv, backend->kv_cache_bytes)},
                     .streams = streams[way]};
    oct_team_run(backend->team, touch_part, &work);
    return OCT_OK;
}
