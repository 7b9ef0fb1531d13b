# One CTest test for each device, operator family and tier, with those as labels, and a guard that no skip can make green.
# The tiers full and nightly run with `ctest -C full` and `ctest -C nightly`.
add_executable(concord_operator_test operator_main.cpp)
add_executable(concord_conformance_guard guard_main.cpp)
foreach(_program concord_operator_test concord_conformance_guard)
  target_compile_features(${_program} PRIVATE cxx_std_23)
  target_link_libraries(${_program} PRIVATE concord_report concord_flags)
  add_dependencies(${_program} concord)
endforeach()
target_link_libraries(concord_operator_test PRIVATE GTest::gtest)

set(_records ${CMAKE_BINARY_DIR}/conformance-records)
add_test(NAME conformance.records.clean COMMAND ${CMAKE_COMMAND} -E rm -rf ${_records})
set_tests_properties(conformance.records.clean PROPERTIES LABELS conformance FIXTURES_SETUP conformance_records)

set(_devices cpu:avx512 cpu:avx2 cpu:strict cpu:onednn cpu:bf16)
foreach(_backend cuda hip)
  if(TARGET concord_backend_${_backend})
    list(APPEND _devices ${_backend})
  endif()
endforeach()

foreach(_tier smoke full nightly)
  set(_configuration)
  if(NOT _tier STREQUAL "smoke")
    set(_configuration CONFIGURATIONS ${_tier})
  endif()
  set(_tests)
  foreach(_device IN LISTS _devices)
    foreach(_family embedding norm matmul rope kv attention activation softmax select)
      set(_name conformance.${_device}.${_family}.${_tier})
      add_test(NAME ${_name} COMMAND concord_operator_test --device ${_device} --family ${_family} --tier ${_tier} --records ${_records} ${_configuration})
      set_tests_properties(${_name} PROPERTIES LABELS "conformance;${_device};${_family};${_tier}" SKIP_RETURN_CODE 77 TIMEOUT 1800 FIXTURES_REQUIRED conformance_records)
      list(APPEND _tests ${_name})
    endforeach()
  endforeach()
  add_test(NAME conformance.guard.${_tier} COMMAND concord_conformance_guard --tier ${_tier} --records ${_records} ${_configuration})
  set_tests_properties(conformance.guard.${_tier} PROPERTIES LABELS "conformance;guard;${_tier}" DEPENDS "${_tests}" FIXTURES_REQUIRED conformance_records TIMEOUT 120)
endforeach()

# The programs above where they must not be green: nothing ran, devices that are not there, changed records.
add_test(NAME conformance.guard.rules COMMAND ${CMAKE_COMMAND} -DGUARD=$<TARGET_FILE:concord_conformance_guard> -DTEST=$<TARGET_FILE:concord_operator_test>
  -DLIST=${PROJECT_SOURCE_DIR}/suites/required/cpu-smoke.lock -DWORK=${CMAKE_BINARY_DIR}/conformance-guard -P ${CMAKE_CURRENT_SOURCE_DIR}/guard_test.cmake)
set_tests_properties(conformance.guard.rules PROPERTIES LABELS "conformance;guard" TIMEOUT 600)
