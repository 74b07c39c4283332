#include "data/shard.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/interrupt.h"

namespace power::data {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "token files are little-endian and read as they are");

constexpr int64_t kHeaderInts = 256;
constexpr int64_t kHeaderBytes = kHeaderInts * 4;
constexpr int32_t kMagic16 = 20240520, kVersion16 = 1;
constexpr int32_t kMagic32 = 20240801, kVersion32 = 7;
constexpr int64_t kScanTokens = 1 << 20;
constexpr ssize_t kTextProof = 64;  // bytes, all of them printable ASCII, that no token file begins with

int open_file(const std::filesystem::path& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == EMFILE) {
    // Data sets of thousands of shards pass the usual soft limit of 1024 open files.
    rlimit limit = {};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
      limit.rlim_cur = limit.rlim_max;
      ::setrlimit(RLIMIT_NOFILE, &limit);
    }
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  }
  require(fd >= 0, ErrorKind::kData, path.string(), ": cannot be opened: ", std::strerror(errno),
          "; check the path, or make token files with `powertrain data tokenize`");
  return fd;
}

template <class T>
int64_t largest(const std::vector<T>& tokens, int64_t count) {
  T result = 0;
  for (int64_t i = 0; i < count; ++i) result = std::max(result, tokens[static_cast<size_t>(i)]);
  return result;
}

template <class T>
int64_t widen(const T* tokens, int64_t count, int64_t* out) {
  T result = 0;
  for (int64_t i = 0; i < count; ++i) {
    out[i] = tokens[i];
    result = std::max(result, tokens[i]);
  }
  return result;
}

bool looks_like_text(std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](char c) { return (c >= ' ' && c <= '~') || c == '\n' || c == '\r' || c == '\t'; });
}

}  // namespace

const char* format_name(ShardFormat format) {
  switch (format) {
    case ShardFormat::kRaw:
      return "raw uint16";
    case ShardFormat::kHeader16:
      return "llm.c uint16";
    case ShardFormat::kHeader32:
      return "llm.c uint32";
  }
  return "?";
}

Shard::Shard(const std::filesystem::path& path) : path_(path) {
  fd_ = open_file(path);
  try {
    struct stat info = {};
    require(::fstat(fd_, &info) == 0, ErrorKind::kData, path.string(), ": ", std::strerror(errno));
    require(!S_ISDIR(info.st_mode), ErrorKind::kData, path.string(), ": is a folder; name the .bin files in it");
    require(S_ISREG(info.st_mode), ErrorKind::kData, path.string(), ": not a regular file");
    require(info.st_size > 0, ErrorKind::kData, path.string(),
            ": empty file; make it again with `powertrain data tokenize`");
    file_bytes_ = info.st_size;
    mtime_ns_ = static_cast<int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 + info.st_mtim.tv_nsec;
    read_header(file_bytes_);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

Shard::~Shard() {
  if (fd_ >= 0) ::close(fd_);
}

Shard::Shard(Shard&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      format_(other.format_),
      tokens_(other.tokens_),
      file_bytes_(other.file_bytes_),
      mtime_ns_(other.mtime_ns_),
      header_bytes_(other.header_bytes_) {}

void Shard::read_header(int64_t file_bytes) {
  std::array<int32_t, 3> header = {};
  const ssize_t got = ::pread(fd_, header.data(), sizeof(header), 0);
  require(got >= 0, ErrorKind::kData, path_.string(), ": cannot be read: ", std::strerror(errno));
  // Neither magic can begin a raw file: its low half is a token id beyond GPT-2's vocabulary.
  const bool magic16 = got >= 4 && header[0] == kMagic16, magic32 = got >= 4 && header[0] == kMagic32;
  if (!magic16 && !magic32) {
    // Text is easily taken for tokens: two ASCII letters make an id below GPT-2's vocabulary size.
    std::array<char, 4096> start = {};
    const ssize_t read = ::pread(fd_, start.data(), start.size(), 0);
    require(read < kTextProof || !looks_like_text({start.data(), static_cast<size_t>(read)}), ErrorKind::kData,
            path_.string(), ": holds text, not tokens; make token files of it with `powertrain data tokenize`");
    require(file_bytes % 2 == 0, ErrorKind::kData, path_.string(), ": odd size of ", file_bytes,
            " bytes, but raw tokens take two bytes each; the file is truncated (fetch or make it again) or is no token "
            "file");
    tokens_ = file_bytes / 2;
    return;
  }
  format_ = magic16 ? ShardFormat::kHeader16 : ShardFormat::kHeader32;
  header_bytes_ = kHeaderBytes;
  require(file_bytes >= kHeaderBytes, ErrorKind::kData, path_.string(), ": the file ends inside its header (",
          file_bytes, " of ", kHeaderBytes, " bytes); it is truncated, fetch or make it again");
  const int32_t version = magic16 ? kVersion16 : kVersion32;
  require(header[1] == version, ErrorKind::kData, path_.string(), ": header says version ", header[1],
          ", this program reads version ", version, " of magic ", header[0],
          "; make it again with `powertrain data tokenize`");
  const int64_t held_bytes = file_bytes - kHeaderBytes;
  require(header[2] > 0 && held_bytes == static_cast<int64_t>(header[2]) * token_bytes(), ErrorKind::kData,
          path_.string(), ": header says ", header[2], " tokens, file holds ", held_bytes / token_bytes(),
          held_bytes % token_bytes() != 0 ? " and a half" : "", "; it is truncated or damaged, fetch or make it again");
  tokens_ = header[2];
}

void Shard::read_at(int64_t token, int64_t count, void* out) const {
  char* next = static_cast<char*>(out);
  int64_t offset = header_bytes_ + token * token_bytes();
  int64_t left = count * token_bytes();
  while (left > 0) {
    const ssize_t got = ::pread(fd_, next, static_cast<size_t>(left), offset);
    if (got < 0 && errno == EINTR) continue;
    require(got >= 0, ErrorKind::kData, path_.string(), ": read failed at byte ", offset, ": ", std::strerror(errno));
    require(got > 0, ErrorKind::kData, path_.string(), ": ends at byte ", offset, ", but had ", file_bytes_,
            " bytes when it was opened; it changed in use, restore it and resume");
    next += got;
    offset += got;
    left -= got;
  }
}

void Shard::copy(int64_t begin, int64_t count, int64_t* out, int64_t vocab_size) const {
  int64_t top = 0;
  if (token_bytes() == 2) {
    std::vector<uint16_t> tokens(static_cast<size_t>(count));
    read_at(begin, count, tokens.data());
    top = widen(tokens.data(), count, out);
  } else {
    std::vector<uint32_t> tokens(static_cast<size_t>(count));
    read_at(begin, count, tokens.data());
    top = widen(tokens.data(), count, out);
  }
  if (count > 0 && top >= vocab_size) fail_id(top, begin + (std::find(out, out + count, top) - out), vocab_size);
}

int64_t Shard::largest_id(const std::function<void(int64_t)>& progress) const {
  std::vector<uint16_t> narrow(token_bytes() == 2 ? kScanTokens : 0);
  std::vector<uint32_t> wide(token_bytes() == 4 ? kScanTokens : 0);
  int64_t result = 0;
  for (int64_t begin = 0; begin < tokens_; begin += kScanTokens) {
    require(!interrupted(), ErrorKind::kPreempted, path_.string(), ": check interrupted");
    const int64_t count = std::min(kScanTokens, tokens_ - begin);
    if (token_bytes() == 2) {
      read_at(begin, count, narrow.data());
      result = std::max(result, largest(narrow, count));
    } else {
      read_at(begin, count, wide.data());
      result = std::max(result, largest(wide, count));
    }
    if (progress) progress(begin + count);
  }
  return result;
}

void Shard::fail_id(int64_t id, int64_t position, int64_t vocab_size) const {
  fail(ErrorKind::kData, path_.string(), ": token id ", id, position < 0 ? str("") : str(" at token ", position),
       " is not below the vocabulary size ", vocab_size, "; it was made with another tokenizer, or is no token file");
}

}  // namespace power::data
