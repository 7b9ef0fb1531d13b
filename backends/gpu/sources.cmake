# What every GPU target is made of, beside its own target.cpp.
file(GLOB CONCORD_GPU_KERNELS CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/kernels/*.cpp)
set(CONCORD_GPU_SOURCES ${CONCORD_GPU_KERNELS})
foreach(_source device memory plugin staging)
  list(APPEND CONCORD_GPU_SOURCES ${CMAKE_CURRENT_LIST_DIR}/${_source}.cpp)
endforeach()
