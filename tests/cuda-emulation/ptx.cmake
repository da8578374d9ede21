# The interpreter of PTX and what is tested with it. Linked into a program it changes nothing until PTX is loaded
# (ptx_registry.h).
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/ptx_*.cpp)
list(FILTER sources EXCLUDE REGEX "ptx_checks")
# Objects, not an archive: the emulation refers to it weakly.
add_library(ptx_interpreter OBJECT ${sources})
target_link_libraries(ptx_interpreter PUBLIC cuda_emulation ${CMAKE_DL_LIBS})
target_compile_options(ptx_interpreter PRIVATE -O2)

foreach(name test_ptx_integer test_ptx_float test_ptx_conversion test_ptx_machine test_ptx_parser)
  add_executable(${name} ${name}.cpp ptx_checks.cpp)
  target_link_libraries(${name} PRIVATE ptx_interpreter PkgConfig::CMOCKA)
  add_test(NAME emulation.${name} COMMAND ${name})
  set_tests_properties(emulation.${name} PROPERTIES LABELS emulation TIMEOUT 120)
endforeach()

if(NOT CUDA_COMPILER)
  message(STATUS "nvcc: absent; the kernels' PTX is not made and not run under emulation")
  return()
endif()

# octet_ptx(NAME a.cu b.cu …): makes the PTX of kernels for every architecture, with the flags that the GPU build has.
# It lies in NAME/sm_90a/a.ptx and so on; the target's property PTX_FOLDER is the path of NAME.
set(PTX_ARCHITECTURES sm_90a sm_100a sm_120a)
function(octet_ptx name)
  set(made)
  foreach(source ${ARGN})
    get_filename_component(source ${source} ABSOLUTE)
    get_filename_component(stem ${source} NAME_WE)
    foreach(architecture ${PTX_ARCHITECTURES})
      set(folder ${CMAKE_CURRENT_BINARY_DIR}/${name}/${architecture})
      file(MAKE_DIRECTORY ${folder})
      # Not from the folder of the emulation: nvcc would take its cuda_runtime.h.
      add_custom_command(OUTPUT ${folder}/${stem}.ptx
        COMMAND ${CUDA_COMPILER} -std=c++17 -O3 -fmad=false -arch=${architecture} -I${PROJECT_SOURCE_DIR}
          -MD -MF ${folder}/${stem}.d -MT ${folder}/${stem}.ptx -ptx ${source} -o ${folder}/${stem}.ptx
        DEPENDS ${source} DEPFILE ${folder}/${stem}.d WORKING_DIRECTORY ${folder} VERBATIM
        COMMENT "PTX of ${stem} for ${architecture}")
      list(APPEND made ${folder}/${stem}.ptx)
    endforeach()
  endforeach()
  add_custom_target(${name} ALL DEPENDS ${made})
  set_target_properties(${name} PROPERTIES PTX_FOLDER ${CMAKE_CURRENT_BINARY_DIR}/${name})
endfunction()

# octet_test_ptx(PROGRAM NAME): runs a program that tests kernels once more for every architecture, comparing each
# launch with the PTX that octet_ptx(NAME) has made.
function(octet_test_ptx program name)
  add_dependencies(${program} ${name})
  # The objects alone: the order of the program's own libraries stays.
  target_sources(${program} PRIVATE $<TARGET_OBJECTS:ptx_interpreter>)
  target_link_libraries(${program} PRIVATE ${CMAKE_DL_LIBS})
  set_target_properties(${program} PROPERTIES ENABLE_EXPORTS ON)
  get_target_property(folder ${name} PTX_FOLDER)
  foreach(architecture ${PTX_ARCHITECTURES})
    add_test(NAME emulation.${program}.${architecture} COMMAND ${program})
    set_tests_properties(emulation.${program}.${architecture} PROPERTIES LABELS emulation TIMEOUT 300
      ENVIRONMENT "CUDA_EMULATION_PTX=${folder}/${architecture};CUDA_EMULATION_PTX_COMPARE=1")
  endforeach()
endfunction()

octet_ptx(examples_ptx ${example_sources})
add_executable(test_ptx_examples test_ptx_examples.cpp test_examples.cpp)
target_link_libraries(test_ptx_examples PRIVATE ptx_interpreter emulation_examples PkgConfig::CMOCKA)
set_target_properties(test_ptx_examples PROPERTIES ENABLE_EXPORTS ON)
add_dependencies(test_ptx_examples examples_ptx)
target_compile_definitions(test_ptx_examples PRIVATE PTX_FOLDER="${CMAKE_CURRENT_BINARY_DIR}/examples_ptx")
add_test(NAME emulation.test_ptx_examples COMMAND test_ptx_examples)
set_tests_properties(emulation.test_ptx_examples PROPERTIES LABELS emulation TIMEOUT 120)

# The bugs of planted_bugs.cpp as PTX has them: the interpreter plain, and under ThreadSanitizer.
if(NOT OCTET_SANITIZE)
  planted_bugs_program(planted_bugs_ptx)
  target_sources(planted_bugs_ptx PRIVATE $<TARGET_OBJECTS:ptx_interpreter>)
  planted_bugs_program(planted_bugs_ptx_thread thread)
  target_sources(planted_bugs_ptx_thread PRIVATE ${sources})
  foreach(name planted_bugs_ptx planted_bugs_ptx_thread)
    target_link_libraries(${name} PRIVATE ${CMAKE_DL_LIBS})
    set_target_properties(${name} PROPERTIES ENABLE_EXPORTS ON)
    add_dependencies(${name} examples_ptx)
  endforeach()
  target_compile_options(planted_bugs_ptx_thread PRIVATE -O1)
  add_test(NAME emulation.planted-bugs-in-ptx COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/check-planted-bugs-in-ptx)
  set_tests_properties(emulation.planted-bugs-in-ptx PROPERTIES LABELS emulation TIMEOUT 300
    ENVIRONMENT "PLANTED_BUGS=$<TARGET_FILE:planted_bugs_ptx>;PTX=${CMAKE_CURRENT_BINARY_DIR}/examples_ptx")
endif()

if(TARGET emulated_kernels)
  octet_ptx(kernels_ptx ${kernel_sources})
  foreach(source ${kernel_tests})
    get_filename_component(name ${source} NAME_WE)
    # Kernels that give up by the clock: how far they come differs from run to run, which is not to be compared.
    if(NOT name STREQUAL test_cuda_persistent_limits)
      octet_test_ptx(${name} kernels_ptx)
    endif()
  endforeach()
endif()
