# Many GPUs by NCCL: train/comm_nccl.c where NCCL is found beside CUDA, else train/comm_nccl_absent.c, which says that it is
# not there.
#
# MSD_NCCL=AUTO takes it where it is, ON insists, OFF leaves it away. With MSD_CUDA=HOST it is the one of tests/cuda_host.

set(MSD_NCCL AUTO CACHE STRING "NCCL, for training on many GPUs: AUTO (where found), ON, OFF")
set_property(CACHE MSD_NCCL PROPERTY STRINGS AUTO ON OFF)
set(nccl_found OFF)
if(NOT MSD_NCCL STREQUAL "OFF" AND cuda_found)
  if(MSD_CUDA STREQUAL "HOST")
    set(nccl_found ON)
  else()
    find_path(NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${NCCL_ROOT}/include)
    find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${CUDAToolkit_LIBRARY_DIR} ${NCCL_ROOT}/lib)
    if(NCCL_INCLUDE AND NCCL_LIBRARY)
      set(nccl_found ON)
    endif()
  endif()
endif()
if(MSD_NCCL STREQUAL "ON" AND NOT nccl_found)
  message(FATAL_ERROR "MSD_NCCL=ON: it needs CUDA (MSD_CUDA) and nccl.h with libnccl.so.2; scripts/setup-cuda.sh DIR gets both, "
                      "then -DNCCL_ROOT=DIR")
endif()
message(STATUS "NCCL: ${nccl_found} (MSD_NCCL=${MSD_NCCL})")

# The file of the folder train that depends on it.
macro(msd_attach_nccl target)
  if(nccl_found)
    target_sources(${target} PRIVATE ${CMAKE_SOURCE_DIR}/train/comm_nccl.c)
    if(NCCL_LIBRARY)
      target_include_directories(${target} SYSTEM PRIVATE ${NCCL_INCLUDE})
      target_link_libraries(${target} PUBLIC ${NCCL_LIBRARY})
    endif()
  else()
    target_sources(${target} PRIVATE ${CMAKE_SOURCE_DIR}/train/comm_nccl_absent.c)
  endif()
endmacro()
