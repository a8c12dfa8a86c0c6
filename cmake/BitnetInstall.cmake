# cmake --install: libraries, headers, CMake package, bundled models. The command line installs itself.
include(CMakePackageConfigHelpers)

get_property(libraries GLOBAL PROPERTY BITNET_LIBRARIES)
foreach(library IN LISTS libraries)
  # A static library asks its users to link what it links privately. Header-only libraries need no linking, so users
  # need not have them.
  get_target_property(links ${library} INTERFACE_LINK_LIBRARIES)
  if(links)
    list(REMOVE_ITEM links "$<LINK_ONLY:nlohmann_json::nlohmann_json>")
    set_target_properties(${library} PROPERTIES INTERFACE_LINK_LIBRARIES "${links}")
  endif()
endforeach()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/bitnet)
install(TARGETS bitnet ${libraries} EXPORT bitnetTargets)
install(EXPORT bitnetTargets NAMESPACE bitnet:: DESTINATION ${package_dir})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/bitnetConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/bitnetConfig.cmake INSTALL_DESTINATION ${package_dir}
                              PATH_VARS CMAKE_INSTALL_DATADIR)
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/bitnetConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/bitnetConfig.cmake ${PROJECT_BINARY_DIR}/bitnetConfigVersion.cmake
              ${CMAKE_CURRENT_LIST_DIR}/FindPCRE2.cmake
        DESTINATION ${package_dir})

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/bitnet DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h")
install(DIRECTORY ${PROJECT_SOURCE_DIR}/models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/bitnet/models
        FILES_MATCHING PATTERN "*.gguf")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
