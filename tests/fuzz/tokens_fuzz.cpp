// A token file of arbitrary bytes: it is refused with Error(kData), or every id that is read is below the vocabulary.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/shard.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kVocab = 50257;
  const int fd = ::memfd_create("tokens", MFD_CLOEXEC);
  if (fd < 0 || ::write(fd, data, size) != static_cast<ssize_t>(size)) std::abort();
  try {
    const power::data::Shard shard("/proc/self/fd/" + std::to_string(fd));
    const int64_t largest = shard.largest_id();
    std::vector<int64_t> ids(static_cast<size_t>(shard.tokens()));
    shard.copy(0, shard.tokens(), ids.data(), kVocab);
    for (const int64_t id : ids) {
      if (id < 0 || id > largest || id >= kVocab) std::abort();
    }
  } catch (const power::Error& error) {
    if (error.kind() != power::ErrorKind::kData) std::abort();
  }
  ::close(fd);
  return 0;
}
