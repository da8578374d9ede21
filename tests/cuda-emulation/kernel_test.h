// What the tests of the CUDA kernels share: seeded random numbers, arrays on the device, random weights in the
// checkpoint's order with their exact values in double precision, and checks that count failures.
//
// Every test_cuda_*.cpp is two programs: one for the emulation, and in builds with CUDA one for a GPU (tests/gpu/).
// Hosts reach the device's memory by the runtime's functions alone; schedules are the emulation's.
//
// The seed is OCT_TEST_SEED or the time; it is printed when a test fails. OCT_TEST_FULL=1 takes all of what is sampled
// otherwise (full-sweep).
#ifndef OCT_TESTS_CUDA_EMULATION_KERNEL_TEST_H
#define OCT_TESTS_CUDA_EMULATION_KERNEL_TEST_H

#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include <cuda_runtime_api.h>

extern "C" {
#include "runtime/encoding.h"
#include "runtime/status.h"
}

#include "kernels/cuda/attention.h"

static uint64_t test_seed, test_state;
static int test_failures;

__attribute__((format(printf, 1, 2))) static inline void fail(const char *format, ...)
{
    if (test_failures++ >= 10)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "FAILED: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, " (OCT_TEST_SEED=%llu)\n", (unsigned long long)test_seed);
    va_end(arguments);
}

static inline void must(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return;
    fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
    exit(2);
}

static inline void must(oct_status status, const char *what)
{
    if (status == OCT_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, oct_failure_text());
    exit(2);
}

// A program for GPUs says which one it has; without one it says why and is skipped.
static inline void find_device(void)
{
    int devices = 0;
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess || devices == 0) {
        printf("skipped: no GPU: %s\n", error != cudaSuccess ? cudaGetErrorString(error) : "none is visible");
        exit(77);
    }
    cudaDeviceProp properties;
    must(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    printf("%s, sm_%d%d, %d multiprocessors\n", properties.name, properties.major, properties.minor,
           properties.multiProcessorCount);
}

static inline void begin_tests(void)
{
    find_device();
    const char *text = getenv("OCT_TEST_SEED");
    test_seed = text != nullptr ? strtoull(text, nullptr, 0) : (uint64_t)time(nullptr);
    test_state = test_seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

// Whether all is tested: every encoding with every number of columns, every shape.
static inline bool is_full(void)
{
    const char *text = getenv("OCT_TEST_FULL");
    return text != nullptr && text[0] != '\0';
}

static inline int end_tests(const char *what)
{
    printf("%s: %s\n", what, test_failures ? "FAILED" : "good");
    return test_failures != 0;
}

// splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
static inline uint64_t random_word(void)
{
    uint64_t z = test_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline int random_below(int n)
{
    return (int)(random_word() % (uint64_t)n);
}

// Between −1 and 1.
static inline float random_number(void)
{
    return (float)((double)(random_word() >> 11) * 0x1p-52 - 1);
}

#ifdef OCT_CUDA_EMULATED
enum { ON_DEVICE = 0 };
extern "C" void cuda_emulation_configure(const char *schedule, uint64_t seed, const char *streams);

// Another order of threads, blocks and what is queued: fifo, lifo or random; streams eager or lazy.
static inline void set_schedule(const char *schedule, const char *streams)
{
    cuda_emulation_configure(schedule, random_word() | 1, streams);
}

// That of the environment again.
static inline void restore_schedule(void)
{
    const char *schedule = getenv("CUDA_EMULATION_SCHEDULE"), *streams = getenv("CUDA_EMULATION_STREAMS");
    set_schedule(schedule != nullptr ? schedule : "fifo", streams != nullptr ? streams : "eager");
}
#else
enum { ON_DEVICE = 1 };

// A GPU has an order of its own.
static inline void set_schedule(const char *, const char *) {}
static inline void restore_schedule(void) {}
#endif

static inline void shuffle(void)
{
    set_schedule("random", "lazy");
}

// An array on the device, freed with the object; without values its bytes are 0xff (NaN).
template <class T> struct Array {
    T *at = nullptr;
    size_t count;

    explicit Array(size_t elements) : count(elements)
    {
        must(cudaMalloc(reinterpret_cast<void **>(&at), bytes()), "cudaMalloc");
        poison();
    }

    explicit Array(const std::vector<T> &values) : Array(values.size())
    {
        must(cudaMemcpy(at, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
    }

    Array(const Array &) = delete;
    Array &operator=(const Array &) = delete;

    ~Array()
    {
        must(cudaFree(at), "cudaFree");
    }

    size_t bytes() const
    {
        return count * sizeof(T) > 0 ? count * sizeof(T) : 1;
    }

    void poison()
    {
        must(cudaMemset(at, 0xff, bytes()), "cudaMemset");
        must(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    }

    // Puts `n` elements in the place of those from `first` on.
    void put(size_t first, const T *elements, size_t n) const
    {
        must(cudaMemcpy(at + first, elements, n * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
    }

    std::vector<T> values() const
    {
        must(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
        std::vector<T> result(count);
        if (count > 0)
            must(cudaMemcpy(result.data(), at, count * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
        return result;
    }
};

// Sends a step for launches of so many columns to a descriptor; what the device does not need is rubbish.
// The limits of runs, or others with the same bits.
static inline oct_cuda_run_limits some_run_limits(const oct_cuda_heads &heads, const oct_cuda_cache &of,
                                                  int32_t columns, int32_t context)
{
    oct_cuda_run_limits limits = oct_cuda_run_limits_of(&heads, &of, columns);
    if (random_below(2) == 0)
        limits.positions = random_below(context);
    return limits;
}

static inline void send_step(const Array<uint8_t> &descriptor, int32_t columns, const oct_step &step,
                             const oct_cuda_run_limits &limits)
{
    std::vector<uint8_t> host(descriptor.count, 0x7f);
    const oct_cuda_step to = oct_cuda_step_place(host.data(), columns, 0);
    const size_t used = oct_cuda_step_write(&to, &step, &limits);
    if (used > host.size())
        fail("a descriptor of %zu bytes has only %zu", used, host.size());
    memset(host.data() + used, 0x7f, host.size() - used);
    descriptor.put(0, host.data(), host.size());
}

static inline bool same_bits(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static inline bool is_poison(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits == 0xffffffffu;
}

static inline float as_bf16(float value)
{
    return oct_bf16_to_f32(oct_f32_to_bf16(value));
}

// Columns of the block that begins at absolute column `at` of a strip that ends (padded) at `end`.
static inline int block_columns(int64_t at, int64_t end)
{
    const int64_t border = (at / OCT_BLOCK_COLUMNS + 1) * OCT_BLOCK_COLUMNS;
    return (int)((border < end ? border : end) - at);
}

// A strip [first, last) of random weights: codes of every value, factors of every value, fp16 scales of moderate size
// and both signs.
static inline std::vector<uint8_t> random_strip(oct_encoding encoding, int64_t first, int64_t last)
{
    const oct_encoding_info *info = oct_encoding_describe(encoding);
    const int64_t end = first + oct_pad_columns(last - first);
    std::vector<uint8_t> strip;
    for (int64_t at = first; at < end; at += block_columns(at, end)) {
        const int n = block_columns(at, end), groups = info->group ? n / info->group : 0;
        std::vector<uint8_t> block(oct_block_bytes(encoding, n));
        for (uint8_t &byte : block)
            byte = (uint8_t)random_word();
        const int halves = info->scale == OCT_SCALE_F16       ? groups * 16
                           : info->scale == OCT_SCALE_F16_MIN ? groups * 32
                           : info->scale == OCT_SCALE_FACTOR_S8 ? 16
                           : info->scale == OCT_SCALE_NONE      ? 0
                                                                : 32;
        for (int i = 0; i < halves; i++) {
            const uint16_t half = oct_f32_to_f16(random_number() * 0.05f);
            memcpy(&block[(size_t)i * 2], &half, 2);
        }
        for (int i = 0; info->float_bytes && i < n * 16; i++) {
            const float value = random_number();
            const uint16_t half = encoding == OCT_F16 ? oct_f32_to_f16(value) : oct_f32_to_bf16(value);
            memcpy(&block[(size_t)(i * info->float_bytes)], info->float_bytes == 4 ? (const void *)&value : &half,
                   (size_t)info->float_bytes);
        }
        strip.insert(strip.end(), block.begin(), block.end());
    }
    return strip;
}

// An exact weight, as scale · level + minimum.
struct Weight {
    double scale, level, minimum;
    double value() const
    {
        return scale * level + minimum;
    }
};

static inline double half_at(const uint8_t *bytes)
{
    uint16_t half;
    memcpy(&half, bytes, 2);
    return oct_f16_to_f32(half);
}

// Weight [row][column] of a block in the checkpoint's order, read anew from what runtime/encoding.h says.
static inline Weight weight_of_block(oct_encoding encoding, const uint8_t *block, int n, int row, int column)
{
    const oct_encoding_info *info = oct_encoding_describe(encoding);
    if (info->float_bytes == 4) {
        float value;
        memcpy(&value, block + ((size_t)column * 16 + (size_t)row) * 4, 4);
        return {1, as_bf16(value), 0}; // the device keeps bf16
    }
    if (info->float_bytes == 2) {
        const uint8_t *at = block + ((size_t)(column / 2) * 16 + (size_t)row) * 4 + column % 2 * 2;
        uint16_t half;
        memcpy(&half, at, 2);
        return {1, encoding == OCT_F16 ? as_bf16(oct_f16_to_f32(half)) : oct_bf16_to_f32(half), 0};
    }
    const int g = column / info->group, groups = n / info->group;
    Weight w = {0, 0, 0};
    size_t planes = 0;
    switch (info->scale) {
    case OCT_SCALE_F16:
        w.scale = half_at(block + g * 32 + row * 2);
        planes = (size_t)groups * 32;
        break;
    case OCT_SCALE_F16_MIN:
        w.scale = half_at(block + g * 64 + row * 2);
        w.minimum = half_at(block + g * 64 + 32 + row * 2);
        planes = (size_t)groups * 64;
        break;
    case OCT_SCALE_FACTOR_S8:
        w.scale = half_at(block + row * 2) * (int8_t)block[32 + g * 16 + row];
        planes = 32 + (size_t)groups * 16;
        break;
    case OCT_SCALE_FACTOR_U8:
        w.scale = half_at(block + row * 2) * block[64 + g * 32 + row];
        w.minimum = half_at(block + 32 + row * 2) * block[64 + g * 32 + 16 + row];
        planes = 64 + (size_t)groups * 32;
        break;
    case OCT_SCALE_FACTOR_U4:
        w.scale = half_at(block + row * 2) * (block[64 + g * 16 + row] & 15);
        w.minimum = half_at(block + 32 + row * 2) * (block[64 + g * 16 + row] >> 4);
        planes = 64 + (size_t)groups * 16;
        break;
    case OCT_SCALE_NONE:
        break;
    }
    int code = 0, shift = 0;
    for (int bits : {info->low_bits, info->high_bits}) {
        if (bits == 0)
            continue;
        const int of_vector = 8 / bits, quad = column / 4;
        const uint8_t byte = block[planes + (size_t)(quad / of_vector * 64 + row * 4 + column % 4)];
        code |= (byte >> quad % of_vector * bits & ((1 << bits) - 1)) << shift;
        shift += bits;
        planes += (size_t)n * 2 * (size_t)bits;
    }
    w.level = (info->codebook ? info->codebook[code] : code) - info->zero;
    return w;
}

// All weights of a strip, [16][last − first].
static inline std::vector<Weight> weights_of_strip(oct_encoding encoding, const uint8_t *strip, int64_t first,
                                                   int64_t last)
{
    const int64_t end = first + oct_pad_columns(last - first), width = last - first;
    std::vector<Weight> weights((size_t)(16 * width));
    for (int64_t at = first; at < end;) {
        const int n = block_columns(at, end);
        for (int row = 0; row < 16; row++)
            for (int c = 0; c < n && at + c < last; c++)
                weights[(size_t)(row * width + at - first + c)] = weight_of_block(encoding, strip, n, row, c);
        strip += oct_block_bytes(encoding, n);
        at += n;
    }
    return weights;
}

#endif
