// Projections with weights of 8 bits, and bf16.
#include "kernels/cuda/projection_launch.h"

template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_q8>(void);
template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_bf16>(void);
