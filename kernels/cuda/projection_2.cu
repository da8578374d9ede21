// Projections with weights of 2 and 3 bits.
#include "kernels/cuda/projection_launch.h"

template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_q2>(void);
template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_q2_k>(void);
template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_q3_k>(void);
