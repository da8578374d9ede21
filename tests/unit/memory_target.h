// A target of oct_checkpoint_load() for tests and benchmarks: each item has its place in memory.
#ifndef OCT_TESTS_MEMORY_TARGET_H
#define OCT_TESTS_MEMORY_TARGET_H

#include "checkpoints/checkpoint.h"

static inline oct_status place_in_memory(void *context, int32_t thread, int32_t item, uint64_t offset, size_t bytes,
                                         void **to)
{
    (void)thread;
    (void)bytes;
    uint8_t *const *places = context;
    *to = places[item] + offset;
    return OCT_OK;
}

// places [items]: borrowed.
static inline oct_load_target memory_target(uint8_t **places)
{
    return (oct_load_target){.context = places, .place = place_in_memory};
}

#endif
