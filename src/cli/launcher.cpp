#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "core/version.h"

// The installed bin/powertrain: it becomes ../lib/powertrain/powertrain, the program. Which LibTorch that loads is
// decided by the dynamic linker before its main() begins, so POWERTRAIN_LIBTORCH can only take effect from outside.
namespace fs = std::filesystem;

namespace {

constexpr const char* kLibrary = "lib/libtorch_cpu.so";

bool holds_libtorch(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / kLibrary, error);
}

}  // namespace

int main(int, char** argv) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const fs::path program = self.parent_path().parent_path() / "lib" / "powertrain" / "powertrain";
  const char* wanted = std::getenv("POWERTRAIN_LIBTORCH");
  const char* search_path = std::getenv("LD_LIBRARY_PATH");
  if (wanted != nullptr && *wanted != '\0') {
    if (!holds_libtorch(wanted)) {
      std::fprintf(stderr, "error: POWERTRAIN_LIBTORCH=%s: no %s there; name LibTorch's folder\n", wanted, kLibrary);
      return 2;
    }
    std::string path = (fs::path(wanted) / "lib").string();
    if (search_path != nullptr && *search_path != '\0') path += std::string(":") + search_path;
    setenv("LD_LIBRARY_PATH", path.c_str(), 1);
  } else if (search_path == nullptr && !holds_libtorch(POWERTRAIN_LIBTORCH_PATH)) {
    std::fprintf(
        stderr,
        "error: LibTorch %s is not in %s any more, where the program was built; set POWERTRAIN_LIBTORCH to its "
        "folder (the one that holds %s)\n",
        POWERTRAIN_LIBTORCH_VERSION, POWERTRAIN_LIBTORCH_PATH, kLibrary);
    return 1;
  }
  execv(program.c_str(), argv);
  std::fprintf(stderr, "error: %s cannot be started: %s; install the program again\n", program.c_str(),
               std::strerror(errno));
  return 1;
}
