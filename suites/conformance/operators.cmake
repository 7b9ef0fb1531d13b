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

# By the names of the command line: of several GPUs the first that is there is tested, and `conform` tests the others. A device that is not there is skipped.
set(_devices cpu:avx512 cpu:avx2 cpu:strict cpu:onednn cpu:bf16)
set(_devices_cuda cuda cuda:portable cuda:tf32)
set(_devices_hip hip hip:portable)
foreach(_backend cuda hip)
  if(TARGET concord_backend_${_backend})
    list(APPEND _devices ${_devices_${_backend}})
  endif()
endforeach()
# The GPU sources on the CPU, thread by thread: slow and alike, so that each has one test for the whole smoke tier. Their plug-in is in a folder that no search finds. It was built here:
# a device of it that is not there, or that supports nothing, is a failure and no skip. Each runs its threads in another order, which no result may depend on.
set(_emulated)
set(_emulation_path)
if(TARGET concord_backend_gpu)
  set(_emulated gpu:emulated gpu:emulated64 gpu:tiles gpu:tiles64)
  set(_emulated_orders forward backward 7 8)
  set(_emulation_path "CONCORD_BACKEND_PATH=${CMAKE_LIBRARY_OUTPUT_DIRECTORY}/emulated:${CMAKE_LIBRARY_OUTPUT_DIRECTORY}")

  # The smoke tier has few products and contexts that are long enough for tiles: those of the full tier in 16 bits, besides.
  add_test(NAME conformance.gpu.tiles.full COMMAND concord conform --tier full --op matmul,attention --backends gpu:tiles,gpu:tiles64 --out ${CMAKE_BINARY_DIR}/conformance-tiles
    -p "(matmul/.*,M=([1-9][0-9]|1[0-9][0-9]),.*w=(bf16|f16|i8|u4).*x=(bf16|f16))|(attention/.*T=([1-9][0-9]|1[0-9][0-9]),.*kv=(bf16|f16),x=(bf16|f16))")
  set_tests_properties(conformance.gpu.tiles.full PROPERTIES LABELS "conformance;gpu" TIMEOUT 1800 ENVIRONMENT "${_emulation_path};CONCORD_EMULATED_ORDER=backward"
    FIXTURES_REQUIRED conformance_tiles)
  add_test(NAME conformance.gpu.tiles.clean COMMAND ${CMAKE_COMMAND} -E rm -rf ${CMAKE_BINARY_DIR}/conformance-tiles)
  set_tests_properties(conformance.gpu.tiles.clean PROPERTIES LABELS "conformance;gpu" FIXTURES_SETUP conformance_tiles)
endif()

foreach(_tier smoke full nightly)
  set(_configuration)
  if(NOT _tier STREQUAL "smoke")
    set(_configuration CONFIGURATIONS ${_tier})
  endif()
  set(_tests)
  set(_tested ${_devices})
  foreach(_device IN LISTS _devices)
    foreach(_family embedding norm matmul rope kv attention activation softmax select)
      set(_name conformance.${_device}.${_family}.${_tier})
      add_test(NAME ${_name} COMMAND concord_operator_test --device ${_device} --family ${_family} --tier ${_tier} --records ${_records} ${_configuration})
      set_tests_properties(${_name} PROPERTIES LABELS "conformance;${_device};${_family};${_tier}" SKIP_RETURN_CODE 77 TIMEOUT 1800 FIXTURES_REQUIRED conformance_records)
      list(APPEND _tests ${_name})
    endforeach()
  endforeach()
  set(_path)
  if(_tier STREQUAL "smoke" AND _emulated)
    list(APPEND _tested ${_emulated})
    set(_path ENVIRONMENT "${_emulation_path}")
    foreach(_device _order IN ZIP_LISTS _emulated _emulated_orders)
      set(_name conformance.${_device}.${_tier})
      add_test(NAME ${_name} COMMAND concord_operator_test --device ${_device} --family all --tier ${_tier} --records ${_records})
      set_tests_properties(${_name} PROPERTIES LABELS "conformance;gpu;${_device};${_tier}" TIMEOUT 1800 FIXTURES_REQUIRED conformance_records
        ENVIRONMENT "${_emulation_path};CONCORD_EMULATED_ORDER=${_order}")
      list(APPEND _tests ${_name})
    endforeach()
  endif()
  list(JOIN _tested "," _tested)
  add_test(NAME conformance.guard.${_tier} COMMAND concord_conformance_guard --tier ${_tier} --records ${_records} --tested ${_tested} ${_configuration})
  set_tests_properties(conformance.guard.${_tier} PROPERTIES LABELS "conformance;guard;${_tier}" DEPENDS "${_tests}" FIXTURES_REQUIRED conformance_records TIMEOUT 120 ${_path})
endforeach()

# The programs above where they must not be green: nothing ran, devices that are not there, changed records.
add_test(NAME conformance.guard.rules COMMAND ${CMAKE_COMMAND} -DGUARD=$<TARGET_FILE:concord_conformance_guard> -DTEST=$<TARGET_FILE:concord_operator_test>
  -DLIST=${PROJECT_SOURCE_DIR}/suites/required/cpu-smoke.lock -DTWINS=$<TARGET_FILE_DIR:concord_test_plugin_twin> -DWORK=${CMAKE_BINARY_DIR}/conformance-guard -P ${CMAKE_CURRENT_SOURCE_DIR}/guard_test.cmake)
set_tests_properties(conformance.guard.rules PROPERTIES LABELS "conformance;guard" TIMEOUT 600)
