# Flags live on one interface target, so that no folder sets any of its own by accident.
# -Wno-missing-field-initializers: members have default values, and a designated initialiser that leaves them is what we mean.
# Numerics: no fast-math anywhere; contraction is off unless a backend source asks for std::fma by name.
add_library(concord_flags INTERFACE)
target_compile_options(concord_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX,C>:-Wall -Wextra -Wshadow -Wno-missing-field-initializers -ffp-contract=off -fno-fast-math>
  $<$<AND:$<BOOL:${CONCORD_WERROR}>,$<COMPILE_LANGUAGE:CXX,C>>:-Werror>)
# The device compilers get the same, in their own words. nvcc's defaults are stated because they are part of what a result means: subnormals kept, division and square root rounded correctly, no
# fused multiply-add that was not asked for. -Wshadow is not for them: names of the CUDA headers' host side shadow each other.
target_compile_options(concord_flags INTERFACE
  "$<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:--fmad=false;--ftz=false;--prec-div=true;--prec-sqrt=true;-Xcompiler=-Wall,-Wextra,-Wno-missing-field-initializers,-ffp-contract=off>"
  "$<$<COMPILE_LANG_AND_ID:HIP,Clang>:-Wall;-Wextra;-Wno-missing-field-initializers;-ffp-contract=off;-fno-fast-math;-fno-gpu-flush-denormals-to-zero;-fhip-fp32-correctly-rounded-divide-sqrt>"
  "$<$<AND:$<BOOL:${CONCORD_WERROR}>,$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>>:--Werror;all-warnings;-Xcompiler=-Werror>"
  "$<$<AND:$<BOOL:${CONCORD_WERROR}>,$<COMPILE_LANG_AND_ID:HIP,Clang>>:-Werror>")
if(CONCORD_SANITIZE)
  target_compile_options(concord_flags INTERFACE -fsanitize=${CONCORD_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(concord_flags INTERFACE -fsanitize=${CONCORD_SANITIZE})
endif()
# LeakSanitizer's tracer itself crashes, now and then, on threads of libraries that were loaded with dlopen (libgomp, TBB behind a plug-in). Programs that load plug-ins run without
# the leak check at exit; every other check, and the leak check everywhere else, stays on.
set(CONCORD_PLUGIN_TEST_ENVIRONMENT "")
if(CONCORD_SANITIZE MATCHES address)
  target_compile_definitions(concord_flags INTERFACE CONCORD_ASAN)  # compilers name it differently
  set(CONCORD_PLUGIN_TEST_ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0")
endif()
if(CONCORD_BUILD_FUZZERS)
  target_compile_options(concord_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(CONCORD_TIDY)
  find_program(CONCORD_CLANG_TIDY NAMES clang-tidy-19 clang-tidy REQUIRED)
  set(CMAKE_CXX_CLANG_TIDY ${CONCORD_CLANG_TIDY} --quiet --warnings-as-errors=*)
endif()
find_program(CONCORD_CCACHE ccache)
if(CONCORD_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CONCORD_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CONCORD_CCACHE})
endif()
