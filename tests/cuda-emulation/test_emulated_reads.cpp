// How often projections really read their weights: the bytes of all bulk copies of a launch, which the emulation
// counts, are the matrix once with up to 64 columns, once more for each 64 columns behind them; and that is what
// oct_cuda_project_bytes() declares.
#include "kernel_test.h"
#include "scheduler.h"

#include "kernels/cuda/layout.h"
#include "kernels/cuda/projection.h"

static oct_cuda_device device;

// Bytes that a projection copies; what the weights are does not matter.
static uint64_t count_bytes(const oct_cuda_projection &p)
{
    const uint64_t before = cuda_emulation::statistics.bulk_bytes;
    if (p.input.prepared != nullptr)
        must(oct_cuda_prepare(&p.input, nullptr), "prepare");
    must(oct_cuda_project(&device, &p, nullptr), "project");
    must(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    return cuda_emulation::statistics.bulk_bytes - before;
}

static void check(const char *what, const oct_cuda_plan &plan, int64_t rows, uint64_t bytes, int64_t width, int columns,
                  bool prepare)
{
    const Array<uint8_t> weights(bytes), prepared(oct_cuda_prepared_bytes((int32_t)width, columns));
    const std::vector<float> ones((size_t)(width * columns), 1.0f);
    const Array<float> x(ones), out((size_t)(rows * columns * plan.nodes));
    oct_cuda_projection p = {};
    p.plan = plan;
    p.input.x = x.at;
    p.input.stride = width;
    p.input.width = (int32_t)width;
    p.input.columns = columns;
    p.matrices[0] = {weights.at, rows, out.at};
    p.matrix_count = 1;
    p.epilogue = plan.nodes > 1 ? OCT_CUDA_NODES : OCT_CUDA_STORE;
    p.out_stride = rows;
    if (!prepare && !oct_cuda_input_fits(&device, &p))
        return;
    p.input.prepared = prepare ? prepared.at : nullptr;
    const uint64_t passes = (uint64_t)(columns + 63) / 64, found = count_bytes(p);
    const uint64_t others = (prepare ? prepared.bytes() : x.bytes()) + out.bytes();
    if (found != passes * bytes)
        fail("%s, %d columns: %llu bytes of weights are read, expected %llu times %llu", what, columns,
             (unsigned long long)found, (unsigned long long)passes, (unsigned long long)bytes);
    if (oct_cuda_project_bytes(&p) != found + others)
        fail("%s, %d columns: %llu bytes are declared, %llu moved", what, columns,
             (unsigned long long)oct_cuda_project_bytes(&p), (unsigned long long)(found + others));
}

static void check_encoding(oct_encoding encoding, int columns, bool prepare)
{
    const char *name = oct_encoding_describe(encoding)->name;
    const oct_partition partition = oct_partition_make(19, 32, 7);
    const oct_run own = {2, 6};
    oct_cuda_plan rows, granules;
    oct_cuda_plan_rows(&rows, encoding, 608);
    check(name, rows, 72, 5 * oct_strip_bytes(oct_cuda_encoding(encoding), 0, 608), 608, columns, prepare);
    oct_cuda_plan_granules(&granules, encoding, 40, 608, &partition, own);
    uint64_t bytes = 0;
    for (int g = own.begin; g < own.end; g++)
        bytes += 3 * oct_strip_bytes(oct_cuda_encoding(encoding), oct_granule_unit(&partition, g) * 32,
                                     oct_granule_unit(&partition, g + 1) * 32);
    const int64_t width = (oct_granule_unit(&partition, own.end) - oct_granule_unit(&partition, own.begin)) * 32;
    check(name, granules, 40, bytes, width, columns, prepare);
}

int main(void)
{
    begin_tests();
    must(oct_cuda_device_read(&device), "device");
    must(oct_cuda_projection_load(&device), "load");
    std::vector<int> counts = {1, 8, 16};
    for (int columns = 2; is_full() && columns < 16; columns++)
        counts.push_back(columns);
    for (int encoding = 0; encoding < OCT_ENCODING_COUNT; encoding++)
        for (int columns : counts)
            for (int prepare = 0; prepare < 2; prepare++)
                check_encoding((oct_encoding)encoding, columns, prepare != 0);
    std::vector<oct_encoding> wide = {OCT_BF16, OCT_Q8, OCT_Q4, OCT_Q4_1, OCT_Q2};
    for (int encoding = 0; is_full() && encoding < OCT_ENCODING_COUNT; encoding++)
        wide.push_back((oct_encoding)encoding);
    for (oct_encoding encoding : wide)
        for (int columns : {17, 64, 65, 150, 256})
            check_encoding(encoding, columns, true);
    return end_tests("reads of weights");
}
