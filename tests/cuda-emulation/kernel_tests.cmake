# The kernels of kernels/cuda compiled for the emulation, and their tests: every test_cuda_*.cpp is a program. For real
# GPUs the same tests are built in tests/gpu.
file(GLOB kernel_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cu)
oct_emulated_kernels(emulated_kernels ${kernel_sources})
file(GLOB host_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.c)
add_library(emulated_kernels_host STATIC ${host_sources})
target_include_directories(emulated_kernels_host SYSTEM PUBLIC ${CUDA_HEADERS})
target_link_libraries(emulated_kernels_host PUBLIC octet_runtime INTERFACE $<LINK_ONLY:emulated_kernels>)
target_link_libraries(emulated_kernels PUBLIC emulated_kernels_host)
# Optimised in every build type, as the kernels for CPUs are.
target_compile_options(emulated_kernels PRIVATE -O2)

oct_emulated_kernels(emulated_tensor_core tensor_core.cu)
list(APPEND kernel_sources tensor_core.cu) # for ptx.cmake

file(GLOB kernel_tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/test_cuda_*.cpp)
foreach(source ${kernel_tests} test_emulated_reads.cpp)
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE emulated_kernels)
  add_test(NAME emulation.${name} COMMAND ${name})
  set_tests_properties(emulation.${name} PROPERTIES LABELS emulation TIMEOUT 300)
endforeach()
target_link_libraries(test_cuda_tensor_core PRIVATE emulated_tensor_core)
if(OCTET_COUNT_ALLOCATIONS)
  # Of the runtime it takes nothing that allocates; the emulation behind it does.
  target_link_options(test_cuda_tensor_core PRIVATE -Wl,--undefined=__wrap_malloc)
endif()

# What steps cost at least on GPUs, and the check that none reads a weight more often than it should.
add_executable(bench_gpu_bounds ${PROJECT_SOURCE_DIR}/tests/bench/bench_gpu_bounds.cpp
  ${PROJECT_SOURCE_DIR}/tests/bench/gpu_launches.cpp)
target_link_libraries(bench_gpu_bounds PRIVATE octet_checkpoints emulated_kernels ${CMAKE_DL_LIBS})
set_target_properties(bench_gpu_bounds PROPERTIES ENABLE_EXPORTS ON)
add_test(NAME emulation.gpu-bounds COMMAND bench_gpu_bounds --check)
set_tests_properties(emulation.gpu-bounds PROPERTIES LABELS emulation TIMEOUT 300)
