# Run by the build (cmake -P): writes OUTPUT, a header with the commit of SOURCE_DIR, when that changed.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND git -C ${SOURCE_DIR} describe --always --dirty --abbrev=12 --exclude=*
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT commit)
  set(commit unknown)  # a source archive without .git
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#pragma once\n\n#define POWERTRAIN_GIT_COMMIT \"@commit@\"\n" @ONLY)
