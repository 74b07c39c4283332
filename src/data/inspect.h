#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace power::data {

// What a token file is and whether it is sound.
struct FileReport {
  std::filesystem::path path;
  std::string format;  // "raw uint16", "llm.c uint16", "llm.c uint32"
  int64_t tokens = 0;
  int64_t file_bytes = 0;
  std::string tokenizer;              // by the manifest beside it; empty: not known
  std::optional<int64_t> documents;   // by the manifest
  std::optional<int64_t> text_bytes;  // by the manifest
  std::optional<int64_t> largest_id;  // found by verify, else by the manifest
  std::string error;                  // empty: sound as far as was looked
};

struct InspectOptions {
  std::vector<std::string> files;                             // files, shell patterns, or folders (their *.bin)
  std::string tokenizer;                                      // whose ids are allowed; empty: the manifest's, else gpt2
  bool verify = false;                                        // read every token, and compare with the manifest's hash
  std::function<void(int64_t done, int64_t total)> progress;  // bytes
};

// One report for each file; a file that cannot be used has `error` set. Throws Error(kData) where a pattern matches
// nothing, Error(kPreempted) when the program is interrupted.
std::vector<FileReport> inspect_files(const InspectOptions& options);
// A table for people, one line a file and a total; or one JSON object.
std::string format_reports(const std::vector<FileReport>& reports, bool verified);
std::string reports_json(const std::vector<FileReport>& reports);

}  // namespace power::data
