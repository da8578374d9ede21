# What joins devices (ranks/) compiled for the emulation, and its test. Programs that link emulated_device_exchange
# have it in place of what the library of the ranks has without CUDA.
set(ranks ${PROJECT_SOURCE_DIR}/ranks)
set_source_files_properties(${ranks}/device_windows.cu PROPERTIES LANGUAGE CXX)
add_library(emulated_device_windows STATIC ${ranks}/device_windows.cu)
target_link_libraries(emulated_device_windows PRIVATE nccl_emulation)

add_library(emulated_device_exchange OBJECT
  ${ranks}/communicator.c ${ranks}/device_exchange.c ${ranks}/device_relay.c ${ranks}/engine_devices.c)
target_compile_definitions(emulated_device_exchange PRIVATE OCTET_HAVE_NCCL=1)
target_include_directories(emulated_device_exchange SYSTEM PRIVATE ${CUDA_HEADERS} ${NCCL_HEADERS})
target_link_libraries(emulated_device_exchange PUBLIC octet_ranks INTERFACE $<LINK_ONLY:emulated_device_windows>
  $<LINK_ONLY:nccl_emulation>)

# In C, so apart from the options that kernels are compiled with.
add_library(test_device_exchange_host OBJECT test_device_exchange.c ${PROJECT_SOURCE_DIR}/launch/guard.c)
target_include_directories(test_device_exchange_host SYSTEM PRIVATE ${CUDA_HEADERS} ${NCCL_HEADERS})
target_link_libraries(test_device_exchange_host PRIVATE octet_ranks)
add_executable(test_device_exchange $<TARGET_OBJECTS:test_device_exchange_host>)
target_link_libraries(test_device_exchange PRIVATE emulated_device_exchange emulated_kernels)
set_target_properties(test_device_exchange PROPERTIES LINKER_LANGUAGE CXX)
add_test(NAME emulation.device-exchange COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/check-device-exchange)
set_tests_properties(emulation.device-exchange PROPERTIES LABELS emulation TIMEOUT 300 SKIP_RETURN_CODE 77
  ENVIRONMENT "OCTET=$<TARGET_FILE:test_device_exchange>")
