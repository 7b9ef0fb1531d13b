# concord_add_backend(NAME SOURCES ... [LINK ...]): the target concord_backend_NAME, a plug-in libconcord_backend_NAME.so that exports its entry alone, needs
# nothing that it does not name, and is compiled without contraction of a * b + c. Used in this repository and, after find_package(concord), in any other.
set(CONCORD_BACKEND_EXPORTS ${CMAKE_CURRENT_LIST_DIR}/concord_backend.map)

function(concord_add_backend NAME)
  cmake_parse_arguments(B "" "" "SOURCES;LINK" ${ARGN})
  if(NOT NAME MATCHES "^[a-z0-9_-]+$")
    message(FATAL_ERROR "concord_add_backend: the name \"${NAME}\" must consist of a-z, 0-9, - and _")
  endif()
  if(NOT B_SOURCES OR B_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "concord_add_backend(${NAME}): expected SOURCES and, if need be, LINK; found \"${ARGN}\"")
  endif()
  set(_target concord_backend_${NAME})
  add_library(${_target} MODULE ${B_SOURCES})
  target_link_libraries(${_target} PRIVATE concord::plugin_sdk ${B_LINK})
  target_compile_options(${_target} PRIVATE $<$<COMPILE_LANG_AND_ID:C,GNU,Clang>:-ffp-contract=off> $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang>:-ffp-contract=off>
    $<$<COMPILE_LANG_AND_ID:HIP,Clang>:-ffp-contract=off> $<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:--fmad=false>)
  set_target_properties(${_target} PROPERTIES PREFIX lib SUFFIX .so POSITION_INDEPENDENT_CODE ON
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden HIP_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    LINK_DEPENDS ${CONCORD_BACKEND_EXPORTS})
  target_link_options(${_target} PRIVATE LINKER:--version-script=${CONCORD_BACKEND_EXPORTS})
  # A sanitizer's runtime is the program's, so that its symbols stay open until the plug-in is loaded.
  if(NOT CONCORD_SANITIZE)
    target_link_options(${_target} PRIVATE LINKER:-z,defs)
  endif()
endfunction()
