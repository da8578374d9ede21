// Recording of a step, and its launch as one kernel.
#include "kernels/cuda/persistent.h"

#include <cstdlib>
#include <cstring>

#include "kernels/cuda/persistent_list.h"

// The recording that is under way: as with the capture of a graph one stream is recorded at a time.
static struct {
    oct_cuda_program *program;
    cudaStream_t stream;
} recording;

bool oct_recording(cudaStream_t stream)
{
    return recording.program != nullptr && recording.stream == stream;
}

static oct_record_entry *records_of(const oct_cuda_program *program)
{
    return static_cast<oct_record_entry *>(program->records);
}

cudaError_t oct_record(oct_body body, dim3 grid, size_t shared_bytes, const void *operands, size_t operand_bytes)
{
    oct_cuda_program *program = recording.program;
    if (program->count == program->capacity || operand_bytes > sizeof(oct_operands))
        return cudaErrorInvalidValue;
    oct_record_entry &record = records_of(program)[program->count++];
    record.body = body;
    record.blocks[0] = static_cast<int32_t>(grid.x);
    record.blocks[1] = static_cast<int32_t>(grid.y);
    record.blocks[2] = static_cast<int32_t>(grid.z);
    record.next_projection = -1;
    memcpy(&record.operands, operands, operand_bytes);
    if (shared_bytes > program->shared_bytes)
        program->shared_bytes = shared_bytes; // of scratch, until end()
    return cudaSuccess;
}

// Of an operation of the step program: with a preparation for projections, and each matrix by itself.
static int32_t most_records(oct_operation_kind kind)
{
    switch (kind) {
    case OCT_OP_QKV:
        return 4;
    case OCT_OP_HEAD:
    case OCT_OP_GATE_UP:
    case OCT_OP_OUTPUT:
    case OCT_OP_DOWN:
        return 3;
    case OCT_OP_EMBED:
        return 2;
    case OCT_OP_ROPE_CACHE:
        return 0; // a part of the attention
    default:
        return 1;
    }
}

int32_t oct_cuda_program_capacity(const oct_step_program *program)
{
    int32_t capacity = 0;
    for (int32_t i = 0; i < program->operation_count; i++)
        capacity += most_records(program->operations[i].kind);
    return capacity;
}

size_t oct_cuda_program_record_bytes(void)
{
    return sizeof(oct_record_entry);
}

oct_status oct_cuda_program_begin(oct_cuda_program *program, cudaStream_t stream)
{
    program->records = calloc(static_cast<size_t>(program->capacity), sizeof(oct_record_entry));
    if (program->records == nullptr)
        return oct_fail(OCT_ERR_MACHINE, "no memory to record a step");
    program->count = 0;
    program->shared_bytes = 0;
    recording = {program, stream};
    return OCT_OK;
}

static oct_persistent_kernel_pointer kernel_of(int32_t variant)
{
    switch (variant) {
    case OCT_PERSISTENT_ONE:
        return oct_persistent_kernel_one();
    case OCT_PERSISTENT_8:
        return oct_persistent_kernel_8();
    default:
        return oct_persistent_kernel_16();
    }
}

// Links the projections to each other, and chooses the variant.
static void link_projections(oct_cuda_program *program)
{
    oct_record_entry *records = records_of(program);
    bool is_wide = false;
    int32_t next = -1;
    for (int32_t i = program->count - 1; i >= 0; i--) {
        is_wide = is_wide || records[i].body == OCT_BODY_ATTENTION_WIDE;
        if (records[i].body != OCT_BODY_PROJECT)
            continue;
        records[i].next_projection = next;
        next = i;
    }
    program->first_projection = next;
    program->variant = program->columns > 8 ? OCT_PERSISTENT_16 : is_wide ? OCT_PERSISTENT_8 : OCT_PERSISTENT_ONE;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

// The rings have what the scratch leaves, as far as they use it; less than a stage is no ring.
static oct_status lay_out_shared(oct_cuda_program *program, const oct_cuda_device *device)
{
    const size_t fixed = oct_align_16(sizeof(oct_persistent_shared)) + oct_align_16(program->shared_bytes);
    const size_t left = device->shared_bytes > fixed ? device->shared_bytes - fixed : 0;
    const size_t room = left / OCT_NARROW_WARPS / 16 * 16;
    program->ring_bytes = 0;
    for (int32_t i = program->first_projection; i >= 0; i = records_of(program)[i].next_projection) {
        oct_record_entry &record = records_of(program)[i];
        const size_t stage = record.operands.projection.tiling.stage_bytes;
        size_t stages = smaller(OCT_MAX_STAGES, OCT_RING_BYTES / stage > 2 ? OCT_RING_BYTES / stage : 2);
        stages = smaller(stages, room / stage);
        if (stages == 0)
            return oct_fail(OCT_ERR_MACHINE,
                            "a step of %d columns by the persistent executor needs %zu bytes of shared memory a "
                            "block, and the GPU has %zu; use --executor graph",
                            program->columns, fixed + OCT_NARROW_WARPS * stage, device->shared_bytes);
        record.stages = static_cast<int32_t>(stages);
        if (stages * stage > program->ring_bytes)
            program->ring_bytes = stages * stage;
    }
    program->shared_bytes = fixed + OCT_NARROW_WARPS * program->ring_bytes;
    return OCT_OK;
}

// As many blocks as the device holds at once: barriers of the grid need them all.
static oct_status find_grid(oct_cuda_program *program, const oct_cuda_device *device)
{
    const oct_persistent_kernel_pointer kernel = kernel_of(program->variant);
    int blocks = 0;
    cudaError_t error = oct_allow_shared(kernel, device->shared_bytes);
    if (error == cudaSuccess)
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, OCT_BLOCK_THREADS,
                                                              program->shared_bytes);
    if (error == cudaSuccess && blocks == 0)
        error = cudaErrorCooperativeLaunchTooLarge;
    program->blocks = device->multiprocessors * blocks;
    return oct_cuda_check(error, "making room for the persistent kernel");
}

static oct_status finish(oct_cuda_program *program, const oct_cuda_device *device, cudaStream_t stream)
{
    link_projections(program);
    oct_status status = lay_out_shared(program, device);
    if (status == OCT_OK)
        status = find_grid(program, device);
    if (status == OCT_OK)
        status = oct_cuda_check(cudaMemcpyAsync(program->on_device, program->records,
                                                static_cast<size_t>(program->count) * sizeof(oct_record_entry),
                                                cudaMemcpyHostToDevice, stream),
                                "sending a recorded step");
    return status == OCT_OK ? oct_cuda_check(cudaStreamSynchronize(stream), "sending a recorded step") : status;
}

oct_status oct_cuda_program_end(oct_cuda_program *program, const oct_cuda_device *device, cudaStream_t stream,
                                oct_status status)
{
    recording = {nullptr, nullptr};
    if (status == OCT_OK)
        status = finish(program, device, stream);
    free(program->records);
    program->records = nullptr;
    if (status != OCT_OK)
        program->count = 0;
    return status;
}

oct_status oct_cuda_program_launch(const oct_cuda_program *program, cudaStream_t stream)
{
    oct_persistent_operands operands = {};
    operands.records = static_cast<const oct_record_entry *>(program->on_device);
    operands.count = program->count;
    operands.first_projection = program->first_projection;
    operands.ring_bytes = static_cast<uint32_t>(program->ring_bytes);
    operands.words = program->words;
    operands.limit_ns = program->limit_ns;
    return oct_cuda_check(oct_launch(kernel_of(program->variant), dim3(static_cast<unsigned>(program->blocks)),
                                     dim3(OCT_BLOCK_THREADS), program->shared_bytes, stream, OCT_LAUNCH_COOPERATIVE,
                                     operands),
                          "starting a step");
}

oct_status oct_cuda_program_check(const oct_cuda_grid_words *words)
{
    if (words->gave_up == nullptr || *words->gave_up == 0)
        return OCT_OK;
    return oct_fail(OCT_ERR_LOST, "the blocks of a step on the GPU have waited in vain for each other; the job ends "
                                  "(--deadline changes how long that may take)");
}
