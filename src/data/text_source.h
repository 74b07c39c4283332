#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace power::data {

// Receives the texts of a file: one, or one for each entry of an archive.
class TextSink {
 public:
  virtual ~TextSink() = default;
  // `name` is for messages, `jsonl` says whether it ends in .jsonl (before a compression's ending).
  virtual void begin_text(const std::string& name, bool jsonl) = 0;
  virtual void add(std::string_view bytes) = 0;
  virtual void end_text() = 0;
};

// Reads a text file; one whose name ends in .gz, .bz2, .xz or .zst is decompressed, a tar (by name, or found inside a
// compressed file) is opened, and so are compressed files and tars inside a tar (OpenWebText's are). Only pieces of a
// text are in memory. `consumed` is told of bytes of the file read so far. Throws Error(kData) for a missing or damaged
// file, Error(kPreempted) when the program is interrupted.
void read_text(const std::filesystem::path& path, TextSink& sink, const std::function<void(int64_t)>& consumed);

}  // namespace power::data
