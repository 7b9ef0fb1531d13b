# What every GPU target is made of, beside its own target.cpp. Those on the host's side have no kernels: an ordinary C++ compiler will do for them, and is faster.
file(GLOB CONCORD_GPU_KERNELS CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/kernels/*.cpp)
set(CONCORD_GPU_HOST "")
foreach(_source device memory plugin staging)
  list(APPEND CONCORD_GPU_HOST ${CMAKE_CURRENT_LIST_DIR}/${_source}.cpp)
endforeach()
set(CONCORD_GPU_SOURCES ${CONCORD_GPU_KERNELS} ${CONCORD_GPU_HOST})
