# Installs this build, moves the tree, builds docs/examples/out-of-tree-backend against it, and has the installed program check and judge the plug-in.
cmake_minimum_required(VERSION 3.25)
set(work ${BUILD}/vendor-example)
set(prefix ${work}/prefix)
set(example ${work}/build)
set(program ${prefix}/bin/concord)
file(REMOVE_RECURSE ${work})

# step(NAME EXPECTED_EXIT EXPECTED_TEXT COMMAND...): runs with the example's folder in the search path and no other variable of ours.
function(step NAME EXIT TEXT)
  execute_process(COMMAND ${CMAKE_COMMAND} -E env --unset=CONCORD_SUITES --unset=CONCORD_FIXTURES --unset=CONCORD_CPU_MASK --unset=DESTDIR
    CONCORD_BACKEND_PATH=${example}:${prefix}/lib/concord ${ARGN} WORKING_DIRECTORY ${work} RESULT_VARIABLE exit OUTPUT_VARIABLE out ERROR_VARIABLE out)
  string(FIND "${out}" "${TEXT}" at)
  if(EXIT STREQUAL "failure" AND NOT exit EQUAL 0)
    set(EXIT ${exit})
  endif()
  if(NOT exit STREQUAL "${EXIT}" OR at EQUAL -1)
    message(FATAL_ERROR "${NAME}: exit ${exit}, expected ${EXIT} and \"${TEXT}\":\n${out}")
  endif()
  message(STATUS "${NAME}: as expected")
endfunction()
set(configure ${CMAKE_COMMAND} -S ${SOURCE}/docs/examples/out-of-tree-backend -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER}
  "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wshadow -Werror")

file(MAKE_DIRECTORY ${work})
step("install" 0 "concordConfig.cmake" ${CMAKE_COMMAND} --install ${BUILD} --prefix ${work}/elsewhere)
file(RENAME ${work}/elsewhere ${prefix})  # nothing in it may remember where it was made
step("install the SDK alone" 0 "concord_backend.h" ${CMAKE_COMMAND} --install ${BUILD} --prefix ${work}/sdk --component sdk)
step("without a program the example is refused" failure "concord" ${configure} -B ${work}/refused -DCMAKE_PREFIX_PATH=${work}/sdk)
step("configure" 0 "Generating done" ${configure} -B ${example} -DCMAKE_PREFIX_PATH=${prefix})
step("build" 0 "libconcord_backend_example.so" ${CMAKE_COMMAND} --build ${example})
step("the example's own tests" 0 "100% tests passed, 0 tests failed out of 2" ${CMAKE_CTEST_COMMAND} --test-dir ${example} --no-tests=error)

step("plugin-check" 0 "GREEN: 25 executed of 25 checks" ${program} plugin-check ${example}/libconcord_backend_example.so)
foreach(name reference cpu)
  step("plugin-check ${name}, as installed" 0 "GREEN" ${program} plugin-check ${prefix}/lib/concord/libconcord_backend_${name}.so)
endforeach()
step("installed data is found" 2 "${prefix}/share/concord/suites/verification/exp99.json" ${program} run exp99 --backends example:scalar)
set(workload ${prefix}/share/concord/suites/workloads/byte-prompts.json:short)
foreach(precision f32 bf16 int8/bf16)
  step("capture ${precision}" 0 "example:scalar" ${program} capture --backend example:scalar --precision ${precision} --workload ${workload} --out ${work}/p)
  step("replay ${precision} by the reference" 0 "16 of 16 tokens" ${program} capture --backend reference --precision ${precision} --workload ${workload} --replay ${work}/p --out ${work}/v)
  step("compare ${precision}" 0 "ACCEPT" ${program} compare ${work}/p ${work}/v --profile rel-l2)
  file(REMOVE ${work}/p ${work}/v)
endforeach()

# The example's own required list, where the vendor has it: the run is green only if every case on it passed, by the kernels that it names.
file(STRINGS ${SOURCE}/docs/examples/out-of-tree-backend/example.lock count REGEX "^count [0-9]+$")
string(REPLACE "count " "" count "${count}")
step("conform" 0 "GREEN: ${count} executed of ${count} required on example:scalar" ${program} conform --backends example:scalar --tier smoke --lists ${SOURCE}/docs/examples/out-of-tree-backend --out ${work}/run)
step("submit" 0 "bundle" ${program} submit ${work}/run --out ${work}/bundle)
step("judge elsewhere, without the device" 0 "GREEN: ${count} executed of ${count} required" ${BUILD}/bin/concord judge ${work}/bundle --lists ${SOURCE}/docs/examples/out-of-tree-backend)
