#include "data/held_out.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "data/permutation.h"

namespace power::data {
namespace {

constexpr size_t kBuffer = 1 << 21;  // tokens
constexpr int64_t kTokenBytes = 2;

// The training file under change: reads anywhere, and writes kept tokens to its front.
class Compactor {
 public:
  explicit Compactor(const std::filesystem::path& path)
      : path_(path), fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC)), buffer_(kBuffer) {
    require(fd_ >= 0, ErrorKind::kRuntime, path.string(), ": cannot be opened: ", std::strerror(errno));
  }
  ~Compactor() { ::close(fd_); }
  Compactor(const Compactor&) = delete;
  Compactor& operator=(const Compactor&) = delete;

  // Passes tokens [begin, end) to `take(data, count)`.
  template <class Take>
  void read(int64_t begin, int64_t end, const Take& take) {
    while (begin < end) {
      require(!interrupted(), ErrorKind::kPreempted, "interrupted");
      const int64_t count = std::min<int64_t>(end - begin, static_cast<int64_t>(buffer_.size()));
      transfer(&::pread, buffer_.data(), begin, count);
      take(buffer_.data(), count);
      begin += count;
    }
  }
  void keep(int64_t begin, int64_t end) {
    if (begin == kept_) {
      kept_ = end;  // nothing has moved yet
      return;
    }
    read(begin, end, [&](const uint16_t* tokens, int64_t count) {
      transfer(&::pwrite, const_cast<uint16_t*>(tokens), kept_, count);
      kept_ += count;
    });
  }
  int64_t finish() {
    require(::ftruncate(fd_, kept_ * kTokenBytes) == 0 && ::fsync(fd_) == 0, ErrorKind::kRuntime, path_.string(),
            ": could not be flushed to disk: ", std::strerror(errno));
    return kept_;
  }

 private:
  template <class Call>
  void transfer(Call call, uint16_t* tokens, int64_t position, int64_t count) {
    char* next = reinterpret_cast<char*>(tokens);
    int64_t offset = position * kTokenBytes, left = count * kTokenBytes;
    while (left > 0) {
      const ssize_t done = call(fd_, next, static_cast<size_t>(left), offset);
      if (done < 0 && errno == EINTR) continue;
      require(done > 0, ErrorKind::kRuntime, path_.string(), ": ", done == 0 ? "ends early" : std::strerror(errno));
      next += done;
      offset += done;
      left -= done;
    }
  }

  std::filesystem::path path_;
  int fd_;
  std::vector<uint16_t> buffer_;
  int64_t kept_ = 0;
};

int64_t share(double fraction, int64_t count) {
  return std::clamp<int64_t>(static_cast<int64_t>(std::ceil(fraction * static_cast<double>(count))), 1, count - 1);
}

}  // namespace

HeldOut hold_out(const std::filesystem::path& train, const std::filesystem::path& document_ends,
                 const std::filesystem::path& val, double fraction, uint64_t seed) {
  const MappedFile ends_file(document_ends);
  const auto* ends = reinterpret_cast<const uint64_t*>(ends_file.data());
  const auto documents = static_cast<int64_t>(ends_file.size() / sizeof(uint64_t));
  const auto tokens = static_cast<int64_t>(std::filesystem::file_size(train)) / kTokenBytes;
  require(tokens >= 2, ErrorKind::kData, "the text has ", tokens, " tokens; none can be held out");
  Compactor compactor(train);
  FileWriter writer(val);
  const auto write = [&](const uint16_t* data, int64_t count) {
    writer.write(data, static_cast<size_t>(count * kTokenBytes));
  };
  HeldOut result;
  if (documents < 2) {
    const int64_t cut = tokens - share(fraction, tokens);
    compactor.read(cut, tokens, write);
    compactor.keep(0, cut);
    result = {0, tokens - cut, 1, 1};  // both hold a part of the one document
  } else {
    const int64_t held = share(fraction, documents);
    const Permutation order(static_cast<uint64_t>(documents), seed, 0);
    int64_t begin = 0;
    for (int64_t i = 0; i < documents; ++i) {
      const auto end = static_cast<int64_t>(ends[i]);
      if (order(static_cast<uint64_t>(i)) < static_cast<uint64_t>(held)) {
        compactor.read(begin, end, write);
        result.val_tokens += end - begin;
      } else {
        compactor.keep(begin, end);
      }
      begin = end;
    }
    result.val_documents = held;
    result.train_documents = documents - held;
  }
  writer.close();
  result.train_tokens = compactor.finish();
  return result;
}

}  // namespace power::data
