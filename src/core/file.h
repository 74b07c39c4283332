#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace power {

// A whole file mapped read-only. Throws Error(kData) where the path is missing, unreadable or not a regular file.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const unsigned char* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view view() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const unsigned char* data_ = nullptr;
  size_t size_ = 0;
};

// A file written front to back; errors (disk full, quota, size limit) throw Error(kRuntime) with path and errno text.
class FileWriter {
 public:
  explicit FileWriter(const std::filesystem::path& path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Flushes to the disk (fsync) and closes. A destructor without close() closes without flushing.
  void close();

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

// The whole file as a string; at most `max_bytes`, else Error(kData).
std::string read_file(const std::filesystem::path& path, size_t max_bytes = SIZE_MAX);
// Writes beside the target, flushes to disk, renames over it, flushes the folder: readers see the old or the new file.
void write_file_atomic(const std::filesystem::path& path, std::string_view content);
// Flushes a folder's entries to the disk, so that a rename in it survives a power cut.
void sync_directory(const std::filesystem::path& directory);
// Paths that match a shell pattern, sorted; a path without wildcard characters is returned as it is.
std::vector<std::filesystem::path> glob_paths(const std::string& pattern);
// XXH3-128 of the bytes as 32 hexadecimal digits.
std::string hash_bytes(const void* data, size_t bytes);

}  // namespace power
