# Many processes by MPI: train/*_mpi.c where MPI is found, else train/*_mpi_absent.c, which say that it is not there.
#
# MSD_MPI=AUTO takes it where it is, ON insists, OFF leaves it away.

set(MSD_MPI AUTO CACHE STRING "MPI, for training with many processes: AUTO (where found), ON, OFF")
set_property(CACHE MSD_MPI PROPERTY STRINGS AUTO ON OFF)
set(mpi_found OFF)
if(NOT MSD_MPI STREQUAL "OFF")
  find_package(MPI QUIET COMPONENTS C)
  set(mpi_found ${MPI_C_FOUND})
  if(NOT mpi_found AND MSD_MPI STREQUAL "ON")
    message(FATAL_ERROR "MSD_MPI=ON: no MPI found; scripts/setup.sh installs libopenmpi-dev")
  endif()
endif()
message(STATUS "MPI: ${mpi_found} (MSD_MPI=${MSD_MPI})")

# The files of the folder train that depend on it.
macro(msd_attach_mpi target)
  if(mpi_found)
    file(GLOB mpi_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/train/*_mpi.c)
    target_link_libraries(${target} PUBLIC MPI::MPI_C)
  else()
    file(GLOB mpi_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/train/*_mpi_absent.c)
  endif()
  target_sources(${target} PRIVATE ${mpi_sources})
endmacro()
