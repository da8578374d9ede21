# Where NVIDIA's headers lie: CUDA_HOME's, or those beside nvcc. Sets CUDA_HEADERS (cache) or leaves it NOTFOUND.
# The emulation takes types and prototypes from them; none of its libraries, and no nvcc.
find_program(CUDA_COMPILER nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
set(beside_compiler)
if(CUDA_COMPILER)
  file(REAL_PATH ${CUDA_COMPILER} compiler)
  get_filename_component(beside_compiler ${compiler}/../../include ABSOLUTE)
endif()
find_path(CUDA_HEADERS cuda_runtime_api.h HINTS $ENV{CUDA_HOME}/include ${beside_compiler})
find_path(NCCL_HEADERS nccl_device.h HINTS ${CUDA_HEADERS} $ENV{CUDA_HOME}/include)
mark_as_advanced(CUDA_COMPILER CUDA_HEADERS NCCL_HEADERS)
