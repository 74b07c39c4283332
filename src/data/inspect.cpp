#include "data/inspect.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/format.h"
#include "data/manifest.h"
#include "data/scan_cache.h"
#include "data/shard.h"
#include "data/tokenizer.h"

namespace power::data {
namespace fs = std::filesystem;

namespace {

std::vector<fs::path> expand(const std::vector<std::string>& patterns) {
  std::vector<fs::path> files;
  for (const std::string& pattern : patterns) {
    const bool folder = fs::is_directory(pattern);
    for (const fs::path& path : glob_paths(folder ? (fs::path(pattern) / "*.bin").string() : pattern)) {
      files.push_back(path);
    }
  }
  return files;
}

void verify_file(const Shard& shard, const std::optional<ManifestEntry>& entry, const std::string& tokenizer,
                 const std::function<void(int64_t)>& progress, FileReport& report) {
  const int64_t vocab_size = make_tokenizer(tokenizer)->vocab_size();
  report.largest_id = shard.largest_id([&](int64_t tokens) {
    if (progress) progress(tokens * shard.token_bytes());
  });
  if (*report.largest_id >= vocab_size) shard.fail_id(*report.largest_id, -1, vocab_size);
  remember_largest_id(shard, *report.largest_id);
  if (!entry) return;
  const MappedFile file(shard.path());
  require(hash_bytes(file.data(), file.size()) == entry->xxh3_128, ErrorKind::kData, shard.path().string(),
          ": content differs from the hash in manifest.json; it is damaged or was replaced, make it again with "
          "`powertrain data tokenize`");
}

FileReport inspect_file(const fs::path& path, const InspectOptions& options,
                        const std::function<void(int64_t)>& progress) {
  FileReport report;
  report.path = path;
  try {
    const Shard shard(path);
    report.format = format_name(shard.format());
    report.tokens = shard.tokens();
    report.file_bytes = shard.file_bytes();
    const std::optional<ManifestEntry> entry = manifest_entry_of(path);
    if (entry) {
      report.tokenizer = entry->tokenizer;
      report.documents = entry->documents;
      report.text_bytes = entry->text_bytes;
      report.largest_id = entry->largest_id;
      require(entry->tokens == shard.tokens(), ErrorKind::kData, path.string(), ": holds ", shard.tokens(),
              " tokens, but the manifest.json beside it says ", entry->tokens, "; it is truncated or was replaced");
    }
    const std::string fallback = report.tokenizer.empty() ? "gpt2" : report.tokenizer;
    if (options.verify) {
      verify_file(shard, entry, options.tokenizer.empty() ? fallback : options.tokenizer, progress, report);
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kData) throw;
    report.error = error.what();
  }
  return report;
}

std::string pad(const std::string& text, size_t width, bool left) {
  const std::string space(width > text.size() ? width - text.size() : 0, ' ');
  return left ? text + space : space + text;
}

template <class T>
nlohmann::ordered_json or_null(const std::optional<T>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
}

}  // namespace

std::vector<FileReport> inspect_files(const InspectOptions& options) {
  const std::vector<fs::path> files = expand(options.files);
  require(!files.empty(), ErrorKind::kUsage, "no data files named");
  int64_t total = 0, done = 0;
  for (const fs::path& file : files) {
    std::error_code error;
    const uintmax_t bytes = fs::file_size(file, error);
    if (!error) total += static_cast<int64_t>(bytes);
  }
  std::vector<FileReport> reports;
  for (const fs::path& file : files) {
    reports.push_back(inspect_file(file, options, [&](int64_t bytes) {
      if (options.progress) options.progress(done + bytes, total);
    }));
    done += reports.back().file_bytes;
  }
  return reports;
}

std::string format_reports(const std::vector<FileReport>& reports, bool verified) {
  size_t width = 4;
  for (const FileReport& report : reports) width = std::max(width, report.path.string().size());
  std::string text = pad("file", width, true) + "  format        tokenizer          tokens    largest id        size\n";
  int64_t tokens = 0, bytes = 0, bad = 0;
  for (const FileReport& report : reports) {
    text += pad(report.path.string(), width, true) + "  ";
    if (report.format.empty()) {
      text += "unusable\n";
    } else {
      text += pad(report.format, 12, true) + "  " + pad(report.tokenizer.empty() ? "?" : report.tokenizer, 9, true) +
              pad(std::to_string(report.tokens), 16, false) +
              pad(report.largest_id ? std::to_string(*report.largest_id) : "?", 14, false) +
              pad(format_bytes(static_cast<double>(report.file_bytes)), 12, false) +
              (verified && report.error.empty() ? "  ok" : "") + "\n";
    }
    if (!report.error.empty()) text += "  " + report.error + "\n";
    bad += report.error.empty() ? 0 : 1;
    tokens += report.tokens;
    bytes += report.file_bytes;
  }
  text += std::to_string(reports.size()) + (reports.size() == 1 ? " file, " : " files, ") + std::to_string(tokens) +
          (tokens == 1 ? " token, " : " tokens, ") + format_bytes(static_cast<double>(bytes));
  if (bad > 0) text += ", " + std::to_string(bad) + " invalid";
  return text + "\n";
}

std::string reports_json(const std::vector<FileReport>& reports) {
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  int64_t tokens = 0;
  bool valid = true;
  for (const FileReport& report : reports) {
    files.push_back({{"path", report.path.string()},
                     {"format", report.format},
                     {"tokenizer", report.tokenizer},
                     {"tokens", report.tokens},
                     {"file_bytes", report.file_bytes},
                     {"documents", or_null(report.documents)},
                     {"text_bytes", or_null(report.text_bytes)},
                     {"largest_id", or_null(report.largest_id)},
                     {"error", report.error}});
    tokens += report.tokens;
    valid = valid && report.error.empty();
  }
  const nlohmann::ordered_json root = {{"valid", valid}, {"tokens", tokens}, {"files", files}};
  return root.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace power::data
