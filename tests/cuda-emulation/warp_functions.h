// __syncthreads() and the functions of a warp: "CUDA C++ Programming Guide", "Synchronization Functions" and "Warp
// Vote", "Match", "Reduce" and "Shuffle Functions".
#ifndef OCT_TESTS_CUDA_EMULATION_WARP_FUNCTIONS_H
#define OCT_TESTS_CUDA_EMULATION_WARP_FUNCTIONS_H

#include <cstring>
#include <type_traits>

#include "scheduler.h"

static inline void __syncthreads(CUDA_EMULATION_HERE)
{
    cuda_emulation::block_barrier("__syncthreads", 0, 0, file, line);
}

static inline void __barrier_sync_count(unsigned id, unsigned threads, CUDA_EMULATION_HERE)
{
    cuda_emulation::block_barrier("bar.sync", (int)id, threads, file, line);
}

static inline void __syncwarp(unsigned mask = ~0u, CUDA_EMULATION_HERE)
{
    cuda_emulation::warp_collective(mask, "__syncwarp", nullptr, nullptr, file, line);
}

namespace cuda_emulation
{
enum { SHUFFLE_INDEX, SHUFFLE_DOWN, SHUFFLE_UP, SHUFFLE_XOR };
enum { VOTE_BALLOT, VOTE_ALL, VOTE_ANY, REDUCE_ADD, REDUCE_MAX, REDUCE_MIN, REDUCE_OR, MATCH_ANY };

template <class T> struct Shuffle {
    T value, result;
    int kind, argument, width;
};

// The lane that `lane` reads from.
static inline int shuffle_source(int lane, int kind, int argument, int width)
{
    int base = lane & ~(width - 1), within = lane & (width - 1);
    switch (kind) {
    case SHUFFLE_INDEX:
        return base + (argument & (width - 1));
    case SHUFFLE_DOWN:
        return within + argument < width ? lane + argument : lane;
    case SHUFFLE_UP:
        return within - argument >= 0 ? lane - argument : lane;
    default:
        return (lane ^ argument) < base + width ? lane ^ argument : lane;
    }
}

// What comes from a lane that takes no part is undefined: here all bits set, NaN as a float.
template <class T> CUDA_EMULATION_NO_TSAN void shuffle_combine(Thread **lanes, unsigned)
{
    for (int i = 0; i < 32; i++) {
        if (!lanes[i])
            continue;
        Shuffle<T> *mine = (Shuffle<T> *)lanes[i]->payload;
        Thread *source = lanes[shuffle_source(i, mine->kind, mine->argument, mine->width)];
        if (source)
            mine->result = ((Shuffle<T> *)source->payload)->value;
        else
            memset(&mine->result, 0xff, sizeof(T));
    }
}

template <class T>
static inline T shfl(unsigned mask, T value, int kind, int argument, int width, const char *file, int line)
{
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 8, "a type that can be shuffled");
    static const char operation[] = "shfl.sync";
    Shuffle<T> shuffle{value, value, kind, argument, width};
    warp_collective(mask, operation, &shuffle, shuffle_combine<T>, file, line);
    return shuffle.result;
}

struct Vote {
    unsigned value, result;
    int kind;
};

// What all lanes get from a vote or a reduction, and what match_any needs: all values.
CUDA_EMULATION_NO_TSAN static inline unsigned vote_result(int kind, const unsigned *values, unsigned lanes)
{
    unsigned ballot = 0, sum = 0, most = 0, least = ~0u, any_bit = 0;
    for (int i = 0; i < 32; i++) {
        if (!(lanes >> i & 1))
            continue;
        ballot |= (values[i] ? 1u : 0u) << i;
        sum += values[i];
        any_bit |= values[i];
        most = values[i] > most ? values[i] : most;
        least = values[i] < least ? values[i] : least;
    }
    switch (kind) {
    case VOTE_BALLOT:
        return ballot;
    case VOTE_ALL:
        return ballot == lanes;
    case VOTE_ANY:
        return ballot != 0;
    case REDUCE_ADD:
        return sum;
    case REDUCE_MAX:
        return most;
    case REDUCE_MIN:
        return least;
    default:
        return any_bit;
    }
}

CUDA_EMULATION_NO_TSAN static inline void vote_combine(Thread **lanes, unsigned)
{
    unsigned values[32], taking_part = 0;
    for (int i = 0; i < 32; i++)
        if (lanes[i]) {
            values[i] = ((Vote *)lanes[i]->payload)->value;
            taking_part |= 1u << i;
        }
    for (int i = 0; i < 32; i++) {
        if (!lanes[i])
            continue;
        Vote *vote = (Vote *)lanes[i]->payload;
        if (vote->kind != MATCH_ANY) {
            vote->result = vote_result(vote->kind, values, taking_part);
            continue;
        }
        vote->result = 0;
        for (int j = 0; j < 32; j++)
            if (lanes[j] && values[j] == values[i])
                vote->result |= 1u << j;
    }
}

static inline unsigned vote(unsigned mask, unsigned value, int kind, const char *file, int line)
{
    static const char operation[] = "vote.sync";
    Vote mine{value, 0, kind};
    warp_collective(mask, operation, &mine, vote_combine, file, line);
    return mine.result;
}
} // namespace cuda_emulation

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int from, int width = 32, CUDA_EMULATION_HERE)
{
    return cuda_emulation::shfl(mask, value, cuda_emulation::SHUFFLE_INDEX, from, width, file, line);
}

template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, CUDA_EMULATION_HERE)
{
    return cuda_emulation::shfl(mask, value, cuda_emulation::SHUFFLE_DOWN, (int)by, width, file, line);
}

template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, CUDA_EMULATION_HERE)
{
    return cuda_emulation::shfl(mask, value, cuda_emulation::SHUFFLE_UP, (int)by, width, file, line);
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32, CUDA_EMULATION_HERE)
{
    return cuda_emulation::shfl(mask, value, cuda_emulation::SHUFFLE_XOR, with, width, file, line);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_EMULATION_HERE)
{
    return cuda_emulation::vote(mask, predicate != 0, cuda_emulation::VOTE_BALLOT, file, line);
}

static inline int __all_sync(unsigned mask, int predicate, CUDA_EMULATION_HERE)
{
    return (int)cuda_emulation::vote(mask, predicate != 0, cuda_emulation::VOTE_ALL, file, line);
}

static inline int __any_sync(unsigned mask, int predicate, CUDA_EMULATION_HERE)
{
    return (int)cuda_emulation::vote(mask, predicate != 0, cuda_emulation::VOTE_ANY, file, line);
}

static inline unsigned __reduce_add_sync(unsigned mask, unsigned value, CUDA_EMULATION_HERE)
{
    return cuda_emulation::vote(mask, value, cuda_emulation::REDUCE_ADD, file, line);
}

static inline unsigned __reduce_max_sync(unsigned mask, unsigned value, CUDA_EMULATION_HERE)
{
    return cuda_emulation::vote(mask, value, cuda_emulation::REDUCE_MAX, file, line);
}

static inline unsigned __reduce_min_sync(unsigned mask, unsigned value, CUDA_EMULATION_HERE)
{
    return cuda_emulation::vote(mask, value, cuda_emulation::REDUCE_MIN, file, line);
}

static inline unsigned __reduce_or_sync(unsigned mask, unsigned value, CUDA_EMULATION_HERE)
{
    return cuda_emulation::vote(mask, value, cuda_emulation::REDUCE_OR, file, line);
}

static inline unsigned __match_any_sync(unsigned mask, unsigned value, CUDA_EMULATION_HERE)
{
    return cuda_emulation::vote(mask, value, cuda_emulation::MATCH_ANY, file, line);
}

[[noreturn]] static inline unsigned __activemask()
{
    cuda_emulation::die("__activemask() has no emulation: its result is undefined on the device too");
}

#endif
