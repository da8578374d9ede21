// In place of NVIDIA's <cuda_runtime.h>, whose device half only nvcc understands.
#include "cuda_emulation.h"
