// Streams as the runtime sees them inside: what is queued, in which order it may run, what is being captured.
#ifndef OCT_TESTS_CUDA_EMULATION_STREAMS_H
#define OCT_TESTS_CUDA_EMULATION_STREAMS_H

#include <memory>
#include <vector>

#include "grid.h"

namespace cuda_emulation
{
// Work that begins or goes on, and says whether it is done; false: it waits for another process, and is called again.
using Work = std::function<bool()>;

// Work on a stream. It may run when all that it comes after is done.
struct Operation {
    Work run;
    std::vector<std::shared_ptr<Operation>> after;
    bool done;
};

// A node of a graph; `after` are indices of nodes before it.
struct Node {
    Work run;
    std::vector<int> after;
};

struct Capture {
    std::vector<Node> nodes;
    cudaStream_t origin; // where it has begun and must end
    bool invalid, ended;
};

// What the next operation of a stream has to come after. An event is a copy of it.
struct Position {
    std::shared_ptr<Operation> operation; // null: nothing
    std::shared_ptr<Capture> capture;     // while the stream is captured
    std::vector<int> nodes;
};

struct Chain {
    std::shared_ptr<Operation> operation;
    std::shared_ptr<Capture> capture;
    int node;
};

// streams.cpp
cudaError_t failed(cudaError_t error); // remembers it for cudaGetLastError(), and returns it
CUstream_st *stream_of(cudaStream_t stream);
void streams_leave_capture(const Capture *capture);
cudaError_t wait_for(const std::shared_ptr<Operation> &operation); // runs what has to run; null: everything
bool stream_is_legacy(const CUstream_st *stream);
int captures_active();
void captures_change(int by);
size_t choose_next(size_t count); // which of `count` that are ready runs next
cudaError_t submit_work(cudaStream_t stream, Work work, Chain *chain = nullptr); // submit() for work that may wait
} // namespace cuda_emulation

struct CUstream_st {
    bool blocking; // ordered with the legacy stream
    cuda_emulation::Position position;
    std::shared_ptr<cuda_emulation::Front> front; // of the kernel that was queued last; null: nobody may overtake it
};

struct CUevent_st {
    cuda_emulation::Position position;
    bool timed;
    std::shared_ptr<int64_t> time_ns;
};

#endif
