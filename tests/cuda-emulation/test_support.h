// What the tests of the emulation share: arrays on the device, random numbers, and the examples with their
// references in double precision.
#ifndef OCT_TESTS_CUDA_EMULATION_TEST_SUPPORT_H
#define OCT_TESTS_CUDA_EMULATION_TEST_SUPPORT_H

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "examples/examples.h"

#define CUDA(call) cuda_check((call), #call, __FILE__, __LINE__)

static inline void cuda_check(cudaError_t error, const char *call, const char *file, int line)
{
    if (!error)
        return;
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, call, cudaGetErrorString(error));
    exit(2);
}

inline uint64_t random_state = 88172645463325252ull;

// Between -1 and 1.
static inline double random_number()
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (double)(random_state >> 11) / 9007199254740992.0 * 2 - 1;
}

static inline std::vector<float> random_floats(size_t count)
{
    std::vector<float> values(count);
    for (float &value : values)
        value = (float)random_number();
    return values;
}

static inline float from_bf16(uint16_t bits)
{
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

static inline std::vector<uint16_t> random_bf16(size_t count)
{
    std::vector<uint16_t> values(count);
    for (uint16_t &value : values) {
        float number = (float)random_number();
        uint32_t word;
        memcpy(&word, &number, sizeof word);
        value = (uint16_t)(word >> 16);
    }
    return values;
}

// An array on the device, freed with the object. Without values it holds NaN.
template <class T> struct Array {
    T *at;
    size_t count;

    explicit Array(size_t elements) : count(elements)
    {
        CUDA(cudaMalloc((void **)&at, count * sizeof(T)));
    }

    explicit Array(const std::vector<T> &values) : Array(values.size())
    {
        CUDA(cudaMemcpy(at, values.data(), count * sizeof(T), cudaMemcpyHostToDevice));
    }

    Array(const Array &) = delete;
    Array &operator=(const Array &) = delete;

    ~Array()
    {
        CUDA(cudaFree(at));
    }

    std::vector<T> values() const
    {
        std::vector<T> result(count);
        CUDA(cudaMemcpy(result.data(), at, count * sizeof(T), cudaMemcpyDeviceToHost));
        return result;
    }
};

struct Stream {
    cudaStream_t handle;

    Stream()
    {
        CUDA(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking));
    }

    Stream(const Stream &) = delete;
    Stream &operator=(const Stream &) = delete;

    ~Stream()
    {
        CUDA(cudaStreamDestroy(handle));
    }

    void wait() const
    {
        CUDA(cudaStreamSynchronize(handle));
    }
};

// What a run of an example has given, and should have.
struct Outcome {
    std::vector<float> found;
    std::vector<double> expected;
    double bound; // of an error, against the greatest expected value

    bool good() const
    {
        double greatest = 0;
        for (double value : expected)
            greatest = std::fmax(greatest, std::fabs(value));
        for (size_t i = 0; i < expected.size(); i++)
            if (!(std::fabs(found[i] - expected[i]) <= bound * greatest)) // NaN is not good
                return false;
        return found.size() == expected.size();
    }
};

// The examples by name, on fresh random inputs of a shape that divides evenly by nothing; `shape` varies it.
struct Example {
    const char *name;
    Outcome (*run)(Bug bug, int shape);
};
enum { EXAMPLES = 8, SHAPES = 3 };
extern const Example examples[EXAMPLES];

#endif
