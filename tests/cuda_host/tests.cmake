# The tests of label cudahost: what runs on the CUDA device of the host layer. Target cudahost builds what they need, and
# scripts/test.sh cudahost runs them; the last of them, cuda_host/summary, counts what they did.
set(cuda_host_folder ${CMAKE_CURRENT_BINARY_DIR}/tmp/cuda_host)
add_executable(compare_values cuda_host/compare_values.c)
target_link_libraries(compare_values PRIVATE msd_base)
add_custom_target(cudahost DEPENDS msd compare_values compare_weights compare_pictures)

add_test(NAME cuda_host/begin COMMAND ${CMAKE_COMMAND} -E rm -rf ${cuda_host_folder})
add_test(NAME cuda_host/summary COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/cuda_host/summary.sh ${cuda_host_folder})
set_tests_properties(cuda_host/begin PROPERTIES LABELS cudahost FIXTURES_SETUP cuda_host)
set_tests_properties(cuda_host/summary PROPERTIES LABELS cudahost FIXTURES_CLEANUP cuda_host)

# cuda_host_test(NAME PROGRAMS... COMMAND ...): a test of the label, and the targets that it needs.
function(cuda_host_test name)
  cmake_parse_arguments(of "" "" "NEEDS;COMMAND" ${ARGN})
  if(of_NEEDS)
    add_dependencies(cudahost ${of_NEEDS})
  endif()
  add_test(NAME cudahost/${name} COMMAND ${of_COMMAND} WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
  set_tests_properties(cudahost/${name} PROPERTIES LABELS cudahost FIXTURES_REQUIRED cuda_host TIMEOUT 900 ENVIRONMENT "${threads}")
endfunction()

# The programs that ask test_device.h, here and on the CPU: at most so far apart, in f32 and in bf16.
function(on_both target f32 bf16)
  string(REGEX REPLACE "_test_" "_" name ${target})
  cuda_host_test(${name} NEEDS ${target} COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/cuda_host/on_both.sh $<TARGET_FILE:${target}>
                 $<TARGET_FILE:compare_values> ${cuda_host_folder} ${name} ${f32} ${bf16})
endfunction()
on_both(autograd_test_ops 1e-5 1e-2)
foreach(module clip_text clip_vision resampler adapter)
  on_both(model_test_${module} 1e-5 1e-2)
endforeach()
# Two roundings after another through so many layers: each device is 1e-2 from the exact result, in its own direction.
on_both(model_test_unet 1e-5 2e-2)
on_both(model_test_vae 1e-5 2e-2)
foreach(part encode probe_encoders pipeline)
  on_both(infer_test_${part} 1e-5 1e-2)
endforeach()
on_both(train_test_train_step 1e-5 1.2e-1) # single gradients of narrow layers: small differences (test_train_step.c)

on_both(train_test_optimizer 1e-5 1e-2)
on_both(train_test_adamw8 1e-5 1e-2)

# Tests that need no device of the CPU's beside it.
file(GLOB programs CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cuda_host/test_*.c)
foreach(program ${programs})
  get_filename_component(part ${program} NAME_WE)
  string(REPLACE "test_" "" part ${part})
  cuda_host_test(${part} NEEDS cuda_host_test_${part} COMMAND ${CMAKE_COMMAND} -E env MSD_CUDA_HOST_REPORT=${cuda_host_folder}/${part}.counts
                 $<TARGET_FILE:cuda_host_test_${part}>)
endforeach()

cuda_host_test(replay NEEDS autograd_test_replay COMMAND ${CMAKE_COMMAND} -E env MSD_TEST_DEVICE=cuda
               MSD_CUDA_HOST_REPORT=${cuda_host_folder}/replay.counts $<TARGET_FILE:autograd_test_replay>)

# Whole runs of the program: scripts get its path and a folder of their own.
file(GLOB scripts CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cuda_host/test_*.sh)
foreach(script ${scripts})
  get_filename_component(name ${script} NAME_WE)
  cuda_host_test(${name} COMMAND bash ${script} $<TARGET_FILE:msd> ${CMAKE_CURRENT_BINARY_DIR}/tmp/cuda_${name})
endforeach()
foreach(part train-f32 train-bf16 pictures)
  cuda_host_test(demo-${part} COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/cuda_host/demo_on_cuda.sh ${part} $<TARGET_FILE:msd>
                 $<TARGET_FILE:compare_weights> $<TARGET_FILE:compare_pictures> ${cuda_host_folder} ${CMAKE_CURRENT_BINARY_DIR}/tmp/demo-${part})
endforeach()
# Ranks: the program again, with what compares runs.
if(nccl_found)
  foreach(part exact failures)
    cuda_host_test(nccl-${part} COMMAND bash ${CMAKE_SOURCE_DIR}/tests/ranks/nccl_on_host.sh ${part} $<TARGET_FILE:msd>
                   ${CMAKE_CURRENT_BINARY_DIR}/tmp/nccl_${part} $<TARGET_FILE:compare_weights>)
  endforeach()
endif()
# The longest first.
set_tests_properties(cudahost/demo-train-f32 PROPERTIES COST 60)
set_tests_properties(cudahost/demo-train-bf16 cudahost/demo-pictures cudahost/train_train_step cudahost/infer_pipeline PROPERTIES COST 30)
