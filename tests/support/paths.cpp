#include "tests/support/paths.h"

namespace power::test {

std::filesystem::path source_dir() { return POWERTRAIN_SOURCE_DIR; }
std::filesystem::path binary_dir() { return POWERTRAIN_BINARY_DIR; }
std::filesystem::path cmake() { return POWERTRAIN_CMAKE; }

}  // namespace power::test
