#include "core/file.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace power {
namespace fs = std::filesystem;

namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

std::string errno_text() { return std::strerror(errno); }

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  require(fd.get() >= 0, ErrorKind::kData, path.string(), ": cannot be opened: ", errno_text());
  struct stat info = {};
  require(::fstat(fd.get(), &info) == 0, ErrorKind::kData, path.string(), ": ", errno_text());
  require(S_ISREG(info.st_mode), ErrorKind::kData, path.string(), ": not a regular file");
  size_ = static_cast<size_t>(info.st_size);
  if (size_ == 0) return;
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  require(mapped != MAP_FAILED, ErrorKind::kRuntime, path.string(), ": cannot be mapped: ", errno_text());
  data_ = static_cast<const unsigned char*>(mapped);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<unsigned char*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

FileWriter::FileWriter(const fs::path& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  require(fd_ >= 0, ErrorKind::kRuntime, path.string(), ": cannot be created: ", errno_text());
}

FileWriter::~FileWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void FileWriter::write(const void* data, size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::write(fd_, next, bytes);
    if (done < 0 && errno == EINTR) continue;
    require(done > 0, ErrorKind::kRuntime, path_.string(), ": write failed: ", errno_text(),
            "; free space there or choose another folder");
    next += done;
    bytes -= static_cast<size_t>(done);
  }
}

void FileWriter::close() {
  const int fd = std::exchange(fd_, -1);
  const bool synced = ::fsync(fd) == 0;
  const std::string reason = synced ? "" : errno_text();
  const bool closed = ::close(fd) == 0;
  require(synced && closed, ErrorKind::kRuntime, path_.string(),
          ": could not be flushed to disk: ", synced ? errno_text() : reason);
}

std::string read_file(const fs::path& path, size_t max_bytes) {
  const MappedFile file(path);
  require(file.size() <= max_bytes, ErrorKind::kData, path.string(), ": ", file.size(), " bytes, at most ", max_bytes,
          " are read");
  return std::string(file.view());
}

void write_file_atomic(const fs::path& path, std::string_view content) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : ".";
  require(fs::is_directory(folder), ErrorKind::kRuntime, path.string(), ": there is no folder ", folder.string(),
          "; create it or name another");
  fs::path temporary = path;
  temporary += ".tmp";
  try {
    FileWriter writer(temporary);
    writer.write(content);
    writer.close();
    fs::rename(temporary, path);
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
  sync_directory(folder);
}

void sync_directory(const fs::path& directory) {
  const Descriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  require(fd.get() >= 0 && ::fsync(fd.get()) == 0, ErrorKind::kRuntime, directory.string(),
          ": could not be flushed to disk: ", errno_text());
}

std::vector<fs::path> glob_paths(const std::string& pattern) {
  if (pattern.find_first_of("*?[") == std::string::npos) return {pattern};
  glob_t matches = {};
  const int status = ::glob(pattern.c_str(), 0, nullptr, &matches);
  std::vector<fs::path> paths(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  ::globfree(&matches);
  require(status == 0 && !paths.empty(), ErrorKind::kData, pattern, ": no file matches");
  return paths;
}

std::string hash_bytes(const void* data, size_t bytes) {
  const XXH128_hash_t hash = XXH3_128bits(data, bytes);
  std::array<char, 33> text = {};
  std::snprintf(text.data(), text.size(), "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text.data();
}

}  // namespace power
