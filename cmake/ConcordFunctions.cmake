# Everything with the label unit: what the sanitizer builds build and run.
add_custom_target(concord_unit_tests)

# What plans, decides, reads and prints need not be fast, and tests' own code neither: it compiles in half to two thirds of the time without the optimiser.
set(CONCORD_COLD_OPTIONS $<$<CONFIG:Release>:-O1> $<$<CONFIG:RelWithDebInfo>:-O0>)

# concord_floor(NAME [SOURCES ...] [COLD ...] [TESTS ...] [DEPS ...] [ENVIRONMENT ...] [LOCK NAME])
# One floor of the harness: static library concord_NAME and, from the *_test.cpp files beside the sources, concord_NAME_test. COLD: sources without loops over elements.
function(concord_floor NAME)
  cmake_parse_arguments(F "" "LOCK" "SOURCES;COLD;TESTS;DEPS;ENVIRONMENT" ${ARGN})
  add_library(concord_${NAME} STATIC ${F_SOURCES} ${F_COLD})
  set_source_files_properties(${F_COLD} PROPERTIES COMPILE_OPTIONS "${CONCORD_COLD_OPTIONS}")
  target_compile_features(concord_${NAME} PUBLIC cxx_std_23)
  target_include_directories(concord_${NAME} PUBLIC ${PROJECT_SOURCE_DIR}/harness)
  target_link_libraries(concord_${NAME} PUBLIC ${F_DEPS} PRIVATE concord_flags)
  if(CONCORD_BUILD_TESTS AND F_TESTS)
    set(_label unit)
    if(F_LOCK STREQUAL "timing")
      set(_label timing)  # what measures is not built for sanitizers
    endif()
    concord_test(concord_${NAME}_test SOURCES ${F_TESTS} DEPS concord_${NAME} LABELS ${_label} ENVIRONMENT ${F_ENVIRONMENT} LOCK ${F_LOCK})
  endif()
endfunction()

# concord_test(TARGET SOURCES ... DEPS ... LABELS ...): a GoogleTest program; CTest runs it case by case.
# An empty program is an error (gtest fails the build when discovery finds nothing to run).
# LOCK: CTest runs no two tests with the same lock at once; programs that time something have LOCK timing.
function(concord_test TARGET)
  cmake_parse_arguments(T "" "LOCK" "SOURCES;DEPS;LABELS;ENVIRONMENT" ${ARGN})
  add_executable(${TARGET} ${T_SOURCES})
  target_compile_features(${TARGET} PRIVATE cxx_std_23)
  target_compile_options(${TARGET} PRIVATE ${CONCORD_COLD_OPTIONS})
  target_compile_definitions(${TARGET} PRIVATE CONCORD_SOURCE_DIR="${PROJECT_SOURCE_DIR}" CONCORD_BINARY_DIR="${CMAKE_BINARY_DIR}")
  target_link_libraries(${TARGET} PRIVATE ${T_DEPS} GTest::gtest GTest::gmock GTest::gtest_main concord_flags)
  if("unit" IN_LIST T_LABELS)
    add_dependencies(concord_unit_tests ${TARGET})
  endif()
  # Only what has a value: gtest_discover_tests drops an empty one, and would take the next name for it.
  set(properties LABELS "${T_LABELS}" TIMEOUT 300)
  if(T_LOCK)
    list(APPEND properties RESOURCE_LOCK ${T_LOCK})
  endif()
  if(T_ENVIRONMENT)
    list(APPEND properties ENVIRONMENT "${T_ENVIRONMENT}")
  endif()
  include(GoogleTest)
  gtest_discover_tests(${TARGET} DISCOVERY_TIMEOUT 60
    PROPERTIES ${properties})
endfunction()

include(${CMAKE_CURRENT_LIST_DIR}/ConcordAddBackend.cmake)

# concord_backend(NAME SOURCES ... [DEPS ...]): a plug-in of this repository, built as a vendor's is, found beside the program and installed with it.
function(concord_backend NAME)
  cmake_parse_arguments(B "" "" "SOURCES;DEPS" ${ARGN})
  concord_add_backend(${NAME} SOURCES ${B_SOURCES} LINK ${B_DEPS} concord_flags)
  set_property(GLOBAL APPEND PROPERTY CONCORD_BACKENDS ${NAME})
endfunction()
