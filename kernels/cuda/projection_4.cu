// Projections with weights of 4 bits.
#include "kernels/cuda/projection_launch.h"

template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_q4>(void);
template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_q4_1>(void);
template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_iq4_nl>(void);
template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_q4_k>(void);
