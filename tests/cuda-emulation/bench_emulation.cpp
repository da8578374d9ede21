// How fast the emulation is: each example again and again for half a second of processor time. Kernels are
// long to emulate by their threads and by how often these wait, so both are printed.
#include <ctime>
#include <functional>

#include "scheduler.h"
#include "test_support.h"

static double processor_seconds()
{
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void measure(const char *name, double multiplications, const std::function<cudaError_t()> &launch)
{
    CUDA(launch());
    cuda_emulation::Statistics before = cuda_emulation::statistics;
    double start = processor_seconds(), seconds;
    int launches = 0;
    do {
        CUDA(launch());
        launches++;
        seconds = processor_seconds() - start;
    } while (seconds < 0.5);
    const cuda_emulation::Statistics &after = cuda_emulation::statistics;
    double threads = (double)(after.threads - before.threads),
           switches = (double)(after.switches - before.switches);
    printf("%-28s %8.3f ms, %6.0f threads, %8.0f changes of fibers (%5.1f ns each, all in), %6.0f M "
           "multiplications/s\n",
           name, seconds / launches * 1e3, threads / launches, switches / launches, seconds / switches * 1e9,
           multiplications * launches / seconds * 1e-6);
}

int main()
{
    int rows = 1536, columns = 512, n = 8;
    Array<float> w(random_floats((size_t)(rows * columns))), x(random_floats((size_t)columns)),
        y((size_t)(rows * n));
    Array<float> scaled((size_t)(rows * columns));
    Array<uint16_t> w16(random_bf16((size_t)(rows * columns))), x16(random_bf16((size_t)(n * columns)));
    double product = (double)rows * columns;
    measure("scale_rows 1536x512", product,
            [&]() { return scale_rows(scaled.at, w.at, rows, columns, BUG_NONE, nullptr); });
    measure("matrix_vector 1536x512", product,
            [&]() { return matrix_vector(y.at, w.at, x.at, rows, columns, BUG_NONE, nullptr); });
    measure("matrix_vector_ring 1536x512", product,
            [&]() { return matrix_vector_ring(y.at, w.at, x.at, rows, columns, BUG_NONE, nullptr); });
    measure("matrix_product 1536x512x8", product * n,
            [&]() { return matrix_product(y.at, w16.at, x16.at, rows, n, columns, BUG_NONE, nullptr); });
    return 0;
}
