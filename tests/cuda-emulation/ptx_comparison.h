// Runs a grid twice, compiled and interpreted, and compares what both leave in memory (ptx_registry.h says
// when).
#ifndef OCT_TESTS_PTX_COMPARISON_H
#define OCT_TESTS_PTX_COMPARISON_H

#include <functional>
#include <string>

namespace ptx
{

// The body of a grid that is compared. Never called: cuda_emulation::ptx_run() takes it apart.
struct compared_body {
    std::function<void()> compiled, interpreted;
    std::string kernel;
    void operator()() const;
};

} // namespace ptx

#endif
