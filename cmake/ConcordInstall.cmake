# Components: program (concord, its plug-ins and its data), sdk (headers and the CMake package), docs.
# The program looks for plug-ins in ../lib/concord and for data in ../share/concord, seen from its own folder: the tree can be moved as a whole.
include(CMakePackageConfigHelpers)
set(_package lib/cmake/concord)
set(_data share/concord)

install(TARGETS concord RUNTIME DESTINATION bin COMPONENT program)
get_property(_backends GLOBAL PROPERTY CONCORD_BACKENDS)
foreach(_name IN LISTS _backends)
  install(TARGETS concord_backend_${_name} LIBRARY DESTINATION lib/concord COMPONENT program)
endforeach()
# Of suites what is data, of fixtures the embedded model: golden vectors are the tests' own.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/suites/ DESTINATION ${_data}/suites COMPONENT program FILES_MATCHING PATTERN "*.json" PATTERN "*.lock"
  PATTERN "cli" EXCLUDE PATTERN "conformance" EXCLUDE PATTERN "docs" EXCLUDE PATTERN "engines" EXCLUDE PATTERN "fuzz" EXCLUDE PATTERN "vendor" EXCLUDE)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/fixtures/models DESTINATION ${_data}/fixtures COMPONENT program)

install(FILES backends/abi/concord_backend.h backends/abi/concord_float.hpp backends/abi/concord_validate.hpp backends/abi/concord_host.hpp
  backends/abi/concord_sample.hpp
  DESTINATION include/concord/abi COMPONENT sdk)
set_target_properties(concord_plugin_sdk PROPERTIES EXPORT_NAME plugin_sdk)
install(TARGETS concord_plugin_sdk EXPORT concordTargets)
install(EXPORT concordTargets NAMESPACE concord:: DESTINATION ${_package} COMPONENT sdk)
file(STRINGS backends/abi/concord_backend.h _abi REGEX "^#define CONCORD_ABI_(MAJOR|MINOR)")
string(REGEX REPLACE ".*MAJOR ([0-9]+)u.*MINOR ([0-9]+)u.*" "\\1.\\2" CONCORD_ABI_VERSION "${_abi}")
configure_package_config_file(cmake/concordConfig.cmake.in ${CMAKE_BINARY_DIR}/generated/concordConfig.cmake INSTALL_DESTINATION ${_package})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/generated/concordConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/generated/concordConfig.cmake ${CMAKE_BINARY_DIR}/generated/concordConfigVersion.cmake
  cmake/ConcordAddBackend.cmake cmake/concord_backend.map DESTINATION ${_package} COMPONENT sdk)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs/ DESTINATION share/doc/concord/docs COMPONENT docs)
install(FILES README.md CHANGELOG.md LICENSE DESTINATION share/doc/concord COMPONENT docs)
install(FILES LICENSE DESTINATION ${_package} COMPONENT sdk)
install(FILES LICENSE DESTINATION ${_data} COMPONENT program)
