// What the host and the persistent kernel both know: the list of a step's operations, and the kernels.
#ifndef OCT_KERNELS_CUDA_PERSISTENT_LIST_H
#define OCT_KERNELS_CUDA_PERSISTENT_LIST_H

#include "kernels/cuda/attention_body.h"
#include "kernels/cuda/embedding_body.h"
#include "kernels/cuda/head_body.h"
#include "kernels/cuda/peers_body.h"
#include "kernels/cuda/persistent.h"
#include "kernels/cuda/projection_kernels.h"
#include "kernels/cuda/record.h"

typedef union oct_operands {
    oct_embed_operands embed;
    oct_cuda_input input;
    oct_cuda_projection projection;
    oct_attention_operands attention;
    oct_cuda_reduction reduction;
    oct_cuda_row_exchange rows;
    oct_select_operands select;
} oct_operands;

// An operation of a recorded step, in global memory.
typedef struct alignas(16) oct_record_entry {
    int32_t body;            // oct_body
    int32_t blocks[3];       // that the grid plays
    int32_t next_projection; // of a projection: the number of the one behind it, −1: none
    int32_t stages;          // of a projection: of the rings
    oct_operands operands;
} oct_record_entry;

typedef struct oct_persistent_operands {
    const oct_record_entry *records; // [count]
    int32_t count, first_projection; // −1: none
    uint32_t ring_bytes;             // of a warp, a multiple of 16
    oct_cuda_grid_words words;
    uint64_t limit_ns;               // that a block waits for the others at a barrier; 0: for ever
} oct_persistent_operands;

// In front of the rings. Between operations the state of a warp's ring is here.
typedef struct oct_persistent_shared {
    oct_record_entry next;          // the next operation; but projections have places of their own, by turns
    oct_record_entry projection[2];
    uint64_t barriers[OCT_NARROW_WARPS][OCT_MAX_STAGES];
    uint32_t filled[OCT_NARROW_WARPS], phases[OCT_NARROW_WARPS];
    uint32_t ring_bytes, may_go_on;
    int32_t step, next_projection; // numbers of the operation that runs, and of the next projection from it on
    uint32_t turn, ran; // places of the projection that the rings are filled for or that runs, and of the last that ran
} oct_persistent_shared;

typedef void (*oct_persistent_kernel_pointer)(const oct_persistent_operands);

// The kernels by variant: for up to 8 columns with attention of one tile of queries, and of several; for 9 to 16.
enum { OCT_PERSISTENT_ONE, OCT_PERSISTENT_8, OCT_PERSISTENT_16, OCT_PERSISTENT_VARIANTS };
oct_persistent_kernel_pointer oct_persistent_kernel_one(void);
oct_persistent_kernel_pointer oct_persistent_kernel_8(void);
oct_persistent_kernel_pointer oct_persistent_kernel_16(void);

#endif
