# SPDX-License-Identifier: Apache-2.0
# find_package(Girih): Girih::backend to build a backend with, Girih::runtime to embed, and the conformance suite.
get_filename_component(GIRIH_PREFIX "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(Girih_MACHINE_SCHEMA "${GIRIH_PREFIX}/share/girih/machine.schema.json")
set(Girih_CONFORMANCE "${GIRIH_PREFIX}/bin/girih-conformance")
if(NOT TARGET Girih::backend)
  add_library(Girih::backend INTERFACE IMPORTED)
  target_include_directories(Girih::backend INTERFACE "${GIRIH_PREFIX}/include")
  add_library(Girih::runtime SHARED IMPORTED)
  set_target_properties(Girih::runtime PROPERTIES IMPORTED_LOCATION "${GIRIH_PREFIX}/lib/libgirih_runtime.so"
    INTERFACE_INCLUDE_DIRECTORIES "${GIRIH_PREFIX}/include")
endif()
