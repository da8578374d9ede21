// Launches and the typed forms of the runtime's functions, spelled as in <cuda_runtime.h>. No <<<>>>: kernels are
// launched through cudaLaunchKernelEx() in both worlds.
#ifndef OCT_TESTS_CUDA_EMULATION_LAUNCH_H
#define OCT_TESTS_CUDA_EMULATION_LAUNCH_H

#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "scheduler.h"

namespace cuda_emulation
{
template <class... Values>
static inline void make_ptx_body(const void *kernel, std::tuple<Values...> &arguments, std::function<void()> *body)
{
    static const size_t bytes[] = {sizeof(Values)..., 0};
    std::apply(
        [&](Values &...value) {
            void *at[] = {(void *)&value..., nullptr};
            ptx_body(kernel, at, bytes, sizeof...(Values), body);
        },
        arguments);
}
} // namespace cuda_emulation

template <class... Parameters, class... Arguments>
static inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *configuration, void (*kernel)(Parameters...),
                                             Arguments &&...argument)
{
    std::tuple<std::decay_t<Parameters>...> arguments(std::forward<Arguments>(argument)...);
    std::function<void()> body = [kernel, arguments]() { std::apply(kernel, arguments); };
    if (cuda_emulation::ptx_body)
        cuda_emulation::make_ptx_body((const void *)kernel, arguments, &body);
    return cuda_emulation::submit_kernel(configuration, (const void *)kernel, std::move(body));
}

template <class Kernel>
static inline cudaError_t cudaFuncSetAttribute(Kernel *kernel, cudaFuncAttribute attribute, int value)
{
    return cudaFuncSetAttribute((const void *)kernel, attribute, value);
}

template <class Kernel>
static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Kernel kernel, int threads,
                                                                        size_t dynamic_bytes)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, (const void *)kernel, threads, dynamic_bytes);
}

template <class T> static inline cudaError_t cudaMalloc(T **at, size_t bytes)
{
    return cudaMalloc((void **)at, bytes);
}

template <class T> static inline cudaError_t cudaMallocHost(T **at, size_t bytes)
{
    return cudaMallocHost((void **)at, bytes);
}

#endif
