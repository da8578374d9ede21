// The kernels whose PTX runs in place of what the host's compiler made of them.
//
// As long as files are loaded every launch runs PTX, found by the kernel's mangled name; a launch of a kernel
// that is in none of them ends the process (code 86), for a test of PTX must not pass by running something
// else. Executables are linked with exported symbols (ENABLE_EXPORTS) and kernels have external linkage, so
// that names can be found.
//
// When comparing, every launch runs twice from the same memory, as the host's compiler made it and as PTX,
// and the process ends (code 86) unless both leave the same bits in all of the device's memory and pinned
// memory (one NaN is as good as another: which one an operation gives is open). So any test of kernels is
// also one of their PTX. It does not work with memory that other processes write (NCCL's windows).
//
// Environment: CUDA_EMULATION_PTX = files and folders (every .ptx in them), with commas between them, loaded
// before the first launch; CUDA_EMULATION_PTX_COMPARE = 1 to compare.
#ifndef OCT_TESTS_PTX_REGISTRY_H
#define OCT_TESTS_PTX_REGISTRY_H

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ptx_program.h"

namespace ptx
{

// Loads a file, or every .ptx of a folder. Throws `error` (ptx_tokens.h): cannot be read, not understood, a
// kernel that is loaded already. Returns how many kernels came.
size_t registry_load(const std::string &path);

// The same for PTX in memory; `path` is for messages.
size_t registry_load_text(const std::string &source, const std::string &path);

// From here on launches run what the host's compiler made. Launches that are queued or captured keep their
// PTX.
void registry_clear();

// From here on launches of loaded kernels are compared, or not.
void registry_compare(bool compare);

// The loaded kernels' names.
std::vector<std::string> registry_kernels();

// How many launches have run PTX since the start of the process.
uint64_t registry_launches();

// What runs a loaded kernel: to be handed to cuda_emulation::submit_kernel(). The arguments are copied; their
// sizes are compared with the parameters'. Ends the process where they differ or the kernel is not loaded.
std::function<void()> registry_body(const std::string &kernel, void **arguments, const size_t *bytes,
                                    size_t count);

} // namespace ptx

#endif
