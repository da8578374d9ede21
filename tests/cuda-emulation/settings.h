// How the emulation behaves: read once from the environment, changed between launches by tests.
#ifndef OCT_TESTS_CUDA_EMULATION_SETTINGS_H
#define OCT_TESTS_CUDA_EMULATION_SETTINGS_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cuda_emulation
{
enum class Schedule { FIFO, LIFO, RANDOM };

struct Settings {
    Schedule schedule;     // CUDA_EMULATION_SCHEDULE = fifo (default), lifo, random
    uint64_t random_state; // from CUDA_EMULATION_SEED, default 1
    bool lazy_streams;     // CUDA_EMULATION_STREAMS = eager (default), lazy
    int resident_blocks; // CUDA_EMULATION_RESIDENT: blocks of an ordinary launch that live at once, default 1
    int processors;      // CUDA_EMULATION_PROCESSORS: multiprocessors of a device, default 4
    std::vector<int> devices; // that the process sees, by their numbers in the machine; empty: no driver
    size_t shared_bytes; // CUDA_EMULATION_SHARED_KIB: shared memory that a block may ask for, default 227 KiB
    size_t memory_bytes; // CUDA_EMULATION_MEMORY_MIB: memory of a device, default 16384 MiB
    int64_t failing_allocation; // CUDA_EMULATION_FAILING_MALLOC: the one that finds no memory, default 0: none
    int64_t failing_graph; // CUDA_EMULATION_FAILING_GRAPH: the launch of a graph that fails, default 0: none
    size_t stack_bytes;  // CUDA_EMULATION_STACK_BYTES of a thread, default 64 KiB, with a sanitizer 256 KiB
    int64_t spin_ms; // CUDA_EMULATION_SPIN_MS: threads that only poll for so long are in a livelock, 20000
    Settings();
};
extern Settings settings;

// The number in the machine of the calling process's device (devices.cpp).
int current_machine_device();

// A random number below n > 0, from the settings' state.
unsigned random_below(unsigned n);
// Now, in nanoseconds of the monotonic clock.
int64_t now_ns();
} // namespace cuda_emulation

// Changes the settings of the same names between launches; a null pointer or a seed of 0 leaves one as it is.
extern "C" void cuda_emulation_configure(const char *schedule, uint64_t seed, const char *streams);

#endif
