// Projections with weights of 5 and 6 bits.
#include "kernels/cuda/projection_launch.h"

template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_q5_0>(void);
template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_q5_1>(void);
template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_q5_k>(void);
template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_q6_k>(void);
