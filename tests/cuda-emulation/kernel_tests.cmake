# The kernels of kernels/cuda compiled for the emulation, and their tests: every test_cuda_*.cpp is a program.
file(GLOB kernel_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cu)
oct_emulated_kernels(emulated_kernels ${kernel_sources})
file(GLOB host_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.c)
add_library(emulated_kernels_host STATIC ${host_sources})
target_include_directories(emulated_kernels_host SYSTEM PUBLIC ${CUDA_HEADERS})
target_link_libraries(emulated_kernels_host PUBLIC octet_runtime INTERFACE $<LINK_ONLY:emulated_kernels>)
target_link_libraries(emulated_kernels PUBLIC emulated_kernels_host)
# Optimised in every build type, as the kernels for CPUs are.
target_compile_options(emulated_kernels PRIVATE -O2)

file(GLOB kernel_tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/test_cuda_*.cpp)
foreach(source ${kernel_tests})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE emulated_kernels)
  add_test(NAME emulation.${name} COMMAND ${name})
  set_tests_properties(emulation.${name} PROPERTIES LABELS emulation TIMEOUT 300)
endforeach()

# How the backend loads weights: in C, over its own state.
add_executable(test_cuda_load test_cuda_load.c)
target_link_libraries(test_cuda_load PRIVATE emulated_kernels_host PkgConfig::CMOCKA)
add_test(NAME emulation.test_cuda_load COMMAND test_cuda_load)
set_tests_properties(emulation.test_cuda_load PROPERTIES LABELS emulation TIMEOUT 300
  ENVIRONMENT "CUDA_EMULATION_STREAMS=lazy;CUDA_EMULATION_SCHEDULE=random")

# The whole program with the CUDA backend, on emulated GPUs. Its own list of backends comes before the library's.
if(NOT OCTET_CUDA)
  add_library(emulated_backends OBJECT ${PROJECT_SOURCE_DIR}/kernels/backend.c)
  target_compile_definitions(emulated_backends PRIVATE OCT_HAVE_CUDA=1)
  add_executable(octet-emulated $<TARGET_OBJECTS:emulated_backends>)
  target_link_libraries(octet-emulated PRIVATE octet_launch emulated_kernels)
  set_target_properties(octet-emulated PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR} LINKER_LANGUAGE CXX)
  add_test(NAME emulation.cuda-backend COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/check-cuda-backend)
  set_tests_properties(emulation.cuda-backend PROPERTIES LABELS emulation TIMEOUT 600 SKIP_RETURN_CODE 77
    ENVIRONMENT "OCTET=$<TARGET_FILE:octet-emulated>;OCTET_SOURCE=${PROJECT_SOURCE_DIR}")
endif()
