# CMake looks for this file under lib/cmake of a ROCm folder; Debian has it in its multiarch folder, where it in turn needs the architecture's name.
if(NOT CMAKE_LIBRARY_ARCHITECTURE)
  set(CMAKE_LIBRARY_ARCHITECTURE x86_64-linux-gnu)
endif()
include(/usr/lib/x86_64-linux-gnu/cmake/hip-lang/hip-lang-config.cmake)
