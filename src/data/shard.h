#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace power::data {

enum class ShardFormat {
  kRaw,       // little-endian uint16 tokens, no header (nanoGPT)
  kHeader16,  // llm.c: 256 int32 (20240520, 1, tokens, 0...), then uint16 tokens
  kHeader32,  // llm.c: 256 int32 (20240801, 7, tokens, 0...), then uint32 tokens
};

const char* format_name(ShardFormat format);

// One token file. The constructor checks size and header and throws Error(kData); ids are checked where they are read.
// Reads go through pread, not a mapping: a file that shrinks in use is an error message, not a SIGBUS.
class Shard {
 public:
  explicit Shard(const std::filesystem::path& path);
  ~Shard();
  Shard(Shard&& other) noexcept;
  Shard& operator=(Shard&&) = delete;

  const std::filesystem::path& path() const { return path_; }
  ShardFormat format() const { return format_; }
  int64_t tokens() const { return tokens_; }
  int64_t file_bytes() const { return file_bytes_; }
  int64_t mtime_ns() const { return mtime_ns_; }
  int token_bytes() const { return format_ == ShardFormat::kHeader32 ? 4 : 2; }

  // Copies tokens [begin, begin + count) to `out`; throws Error(kData) where an id is not below vocab_size.
  void copy(int64_t begin, int64_t count, int64_t* out, int64_t vocab_size) const;
  // The largest id of the file. Reads all of it; `progress` (may be empty) is told of tokens done.
  // Stops with Error(kPreempted) when the program is interrupted.
  int64_t largest_id(const std::function<void(int64_t)>& progress = {}) const;
  // The error for an id beyond the vocabulary; position -1: not known.
  [[noreturn]] void fail_id(int64_t id, int64_t position, int64_t vocab_size) const;

 private:
  void read_at(int64_t token, int64_t count, void* out) const;
  void read_header(int64_t file_bytes);

  std::filesystem::path path_;
  int fd_ = -1;
  ShardFormat format_ = ShardFormat::kRaw;
  int64_t tokens_ = 0, file_bytes_ = 0, mtime_ns_ = 0, header_bytes_ = 0;
};

}  // namespace power::data
