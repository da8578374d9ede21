# The CUDA backend on emulated GPUs. How it loads weights: in C, over its own state.
add_executable(test_cuda_load test_cuda_load.c)
target_link_libraries(test_cuda_load PRIVATE emulated_kernels_host PkgConfig::CMOCKA)
add_test(NAME emulation.test_cuda_load COMMAND test_cuda_load)
set_tests_properties(emulation.test_cuda_load PROPERTIES LABELS emulation TIMEOUT 300
  ENVIRONMENT "CUDA_EMULATION_STREAMS=lazy;CUDA_EMULATION_SCHEDULE=random")

# The whole program. Its own list of backends comes before the library's, and what joins devices likewise.
if(NOT OCTET_CUDA)
  add_library(emulated_backends OBJECT ${PROJECT_SOURCE_DIR}/kernels/backend.c)
  target_compile_definitions(emulated_backends PRIVATE OCT_HAVE_CUDA=1)
  add_executable(octet-emulated $<TARGET_OBJECTS:emulated_backends>)
  target_link_libraries(octet-emulated PRIVATE octet_launch emulated_kernels)
  set_target_properties(octet-emulated PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR} LINKER_LANGUAGE CXX)
  set(emulated_ranks 1)
  if(TARGET emulated_device_exchange)
    target_link_libraries(octet-emulated PRIVATE emulated_device_exchange)
    set(emulated_ranks 1 2 3 8)
  endif()
  list(JOIN emulated_ranks " " emulated_ranks)
  foreach(check cuda-backend persistent-executor)
    add_test(NAME emulation.${check} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/check-${check})
    set_tests_properties(emulation.${check} PROPERTIES LABELS emulation TIMEOUT 600 SKIP_RETURN_CODE 77 ENVIRONMENT
      "OCTET=$<TARGET_FILE:octet-emulated>;OCTET_SOURCE=${PROJECT_SOURCE_DIR};RANKS=${emulated_ranks}")
  endforeach()
endif()
