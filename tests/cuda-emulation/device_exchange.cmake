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
function(exchange_test name)
  add_library(${name}_host OBJECT ${name}.c ${PROJECT_SOURCE_DIR}/launch/guard.c)
  target_include_directories(${name}_host SYSTEM PRIVATE ${CUDA_HEADERS} ${NCCL_HEADERS})
  target_link_libraries(${name}_host PRIVATE octet_ranks)
  add_executable(${name} $<TARGET_OBJECTS:${name}_host>)
  target_link_libraries(${name} PRIVATE emulated_device_exchange emulated_kernels)
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
endfunction()
exchange_test(test_device_exchange)
exchange_test(test_peer_exchange)
foreach(name device-exchange peer-exchange)
  string(REPLACE "-" "_" program test_${name})
  add_test(NAME emulation.${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/check-${name})
  set_tests_properties(emulation.${name} PROPERTIES LABELS emulation TIMEOUT 300 SKIP_RETURN_CODE 77
    ENVIRONMENT "OCTET=$<TARGET_FILE:${program}>")
endforeach()
