#pragma once

#include <filesystem>

// Folders of this build. One small file knows them, so that the tests' objects are the same in every clone and the
// compiler cache serves them all.
namespace power::test {

std::filesystem::path source_dir();  // the root of the repository: small files of the tests, shipped data
std::filesystem::path binary_dir();  // the build folder: the program
std::filesystem::path cmake();       // the cmake that configured it

}  // namespace power::test
