#include <alloca.h>
#include <unistd.h>

#include <climits>
#include <cstring>
#include <initializer_list>

// libgomp's threads wait for each other by spinning, 300,000 turns (about 10 ms) before they sleep. On a machine with
// other work a waiting thread then keeps the thread it waits for off its core: training on a CPU becomes 5 to 25 times
// slower. 1,000 turns share a busy one, and are as fast on two idle cores (16 idle ones lose a sixth). libgomp reads
// the number from the environment when it is loaded, before main(), so the program is started a second time with it, by
// a function of the preinit array, which runs before the initialisation of any library: that takes 0.03 s, loading
// LibTorch whole takes 0.5 s.
namespace {

const char* value_of(char* const* environment, const char* name) {
  const size_t length = std::strlen(name);
  for (; *environment != nullptr; ++environment) {
    if (std::strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
      return *environment + length + 1;
  }
  return nullptr;
}

bool computes(const char* command) {
  for (const char* name : {"train", "eval", "generate"}) {
    if (std::strcmp(command, name) == 0) return true;
  }
  return false;
}

// Nothing of the C library that allocates: it is not initialised yet. Where exec fails the program goes on as it is.
void limit_spinning(int argc, char** argv, char** environment) {
  if (argc < 2 || !computes(argv[1])) return;
  if (value_of(environment, "OMP_WAIT_POLICY") != nullptr || value_of(environment, "GOMP_SPINCOUNT") != nullptr) return;
  const char* threads = value_of(environment, "OMP_NUM_THREADS");
  if (threads != nullptr && std::strcmp(threads, "1") == 0) return;
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
  if (length <= 0) return;
  path[length] = '\0';
  size_t count = 0;
  while (environment[count] != nullptr) ++count;
  char spin_count[] = "GOMP_SPINCOUNT=1000";
  auto* const extended = static_cast<char**>(alloca((count + 2) * sizeof(char*)));
  std::memcpy(extended, environment, count * sizeof(char*));
  extended[count] = spin_count;
  extended[count + 1] = nullptr;
  execve(path, argv, extended);
}

__attribute__((section(".preinit_array"), used)) void (*const limit_spinning_first)(int, char**,
                                                                                    char**) = limit_spinning;

}  // namespace
