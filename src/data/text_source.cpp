#include "data/text_source.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/interrupt.h"

namespace power::data {
namespace {

constexpr size_t kPiece = 1 << 18;
constexpr int kMaxDepth = 4;  // OpenWebText: a tar of compressed tars

using ByteReader = std::function<size_t(char* out, size_t capacity)>;  // 0: the end

bool ends_with_any(const std::string& name, std::initializer_list<const char*> endings) {
  return std::any_of(endings.begin(), endings.end(), [&](const char* ending) { return name.ends_with(ending); });
}

bool is_compressed(const std::string& name) {
  return ends_with_any(name, {".gz", ".bz2", ".xz", ".zst", ".tgz", ".tbz2", ".txz", ".tzst"});
}

bool is_tar(const std::string& name) { return ends_with_any(name, {".tar", ".tgz", ".tbz2", ".txz", ".tzst"}); }

bool is_jsonl(const std::string& name) {
  return name.ends_with(".jsonl") || (is_compressed(name) && name.substr(0, name.rfind('.')).ends_with(".jsonl"));
}

void require_not_interrupted() { require(!interrupted(), ErrorKind::kPreempted, "interrupted"); }

void read_plain(const std::string& name, const ByteReader& read, TextSink& sink) {
  std::vector<char> piece(kPiece);
  sink.begin_text(name, is_jsonl(name));
  while (const size_t got = read(piece.data(), piece.size())) {
    require_not_interrupted();
    sink.add({piece.data(), got});
  }
  sink.end_text();
}

// libarchive over a ByteReader.
class Archive {
 public:
  Archive(std::string name, ByteReader read) : name_(std::move(name)), read_(std::move(read)) {
    archive_read_support_filter_gzip(handle_.get());
    archive_read_support_filter_bzip2(handle_.get());
    archive_read_support_filter_xz(handle_.get());
    archive_read_support_filter_zstd(handle_.get());
    archive_read_support_format_tar(handle_.get());
    archive_read_support_format_raw(handle_.get());
    archive_read_support_format_empty(handle_.get());
    const int status = archive_read_open(handle_.get(), this, nullptr, &Archive::next_bytes, nullptr);
    if (status != ARCHIVE_OK) fail_archive();
  }

  // The next entry, or null at the end.
  archive_entry* next() {
    archive_entry* entry = nullptr;
    const int status = archive_read_next_header(handle_.get(), &entry);
    rethrow();
    if (status == ARCHIVE_EOF) return nullptr;
    if (status != ARCHIVE_OK && status != ARCHIVE_WARN) fail_archive();
    return entry;
  }
  size_t read(char* out, size_t capacity) {
    const la_ssize_t got = archive_read_data(handle_.get(), out, capacity);
    rethrow();
    if (got < 0) fail_archive();
    return static_cast<size_t>(got);
  }
  bool is_raw() const { return archive_format(handle_.get()) == ARCHIVE_FORMAT_RAW; }
  bool has_filter() const { return archive_filter_count(handle_.get()) > 1; }

 private:
  struct Free {
    void operator()(archive* handle) const { archive_read_free(handle); }
  };

  static la_ssize_t next_bytes(archive* handle, void* self, const void** bytes) {
    auto& archive = *static_cast<Archive*>(self);
    try {
      const size_t got = archive.read_(archive.buffer_.data(), archive.buffer_.size());
      *bytes = archive.buffer_.data();
      return static_cast<la_ssize_t>(got);
    } catch (...) {  // must not pass through C
      archive.error_ = std::current_exception();
      archive_set_error(handle, EIO, "read failed");
      return -1;
    }
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }
  [[noreturn]] void fail_archive() const {
    rethrow();
    const char* reason = archive_error_string(handle_.get());
    fail(ErrorKind::kData, name_, ": cannot be decompressed: ", reason != nullptr ? reason : "unknown format",
         "; the file is truncated or damaged, or its name has the wrong ending");
  }

  std::string name_;
  ByteReader read_;
  std::vector<char> buffer_ = std::vector<char>(kPiece);
  std::exception_ptr error_;
  std::unique_ptr<archive, Free> handle_{archive_read_new()};
};

void read_stream(const std::string& name, const ByteReader& read, TextSink& sink, int depth) {
  if (!is_compressed(name) && !is_tar(name)) return read_plain(name, read, sink);
  require(depth < kMaxDepth, ErrorKind::kData, name, ": archives nested more than ", kMaxDepth, " deep");
  Archive archive(name, read);
  const auto read_entry = [&](char* out, size_t capacity) { return archive.read(out, capacity); };
  while (archive_entry* entry = archive.next()) {
    if (is_compressed(name)) {
      require(archive.has_filter(), ErrorKind::kData, name, ": is not compressed, though its name says so; rename it");
    }
    if (archive.is_raw()) {
      require(!is_tar(name), ErrorKind::kData, name, ": holds no tar, though its name says so; rename it");
      read_plain(name, read_entry, sink);
    } else if (archive_entry_filetype(entry) == AE_IFREG) {
      const char* entry_name = archive_entry_pathname(entry);
      read_stream(name + ":" + (entry_name != nullptr ? entry_name : "?"), read_entry, sink, depth + 1);
    }
  }
}

}  // namespace

void read_text(const std::filesystem::path& path, TextSink& sink, const std::function<void(int64_t)>& consumed) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  require(fd >= 0, ErrorKind::kData, path.string(), ": cannot be opened: ", std::strerror(errno));
  const std::shared_ptr<void> closer(nullptr, [fd](void*) { ::close(fd); });
  struct stat info = {};
  require(::fstat(fd, &info) == 0 && !S_ISDIR(info.st_mode), ErrorKind::kData, path.string(),
          ": is a folder; name the files in it");
  int64_t total = 0;
  const ByteReader read = [&](char* out, size_t capacity) {
    require_not_interrupted();
    ssize_t got = -1;
    do {
      got = ::read(fd, out, capacity);
    } while (got < 0 && errno == EINTR);
    require(got >= 0, ErrorKind::kData, path.string(), ": cannot be read: ", std::strerror(errno));
    total += got;
    if (consumed) consumed(total);
    return static_cast<size_t>(got);
  };
  read_stream(path.string(), read, sink, 0);
}

}  // namespace power::data
