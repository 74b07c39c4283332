#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace power::data {

// How much of a shard is checked when it is opened: every token id, every id unless an earlier scan of the same size
// and modification time was recorded, or only sizes and headers.
enum class Verify { kFull, kCached, kOff };

// All shards of a data set as one range of tokens. Shards: raw little-endian uint16, or llm.c's (header magic 20240520,
// uint16) or its uint32 variant (magic 20240801). Throws Error(kData): what is wrong, what was found, what to do.
class Dataset {
 public:
  // `patterns`: files or shell patterns; shards keep the order of the patterns, sorted within one.
  // Token ids must be below vocab_size.
  Dataset(const std::vector<std::string>& patterns, int64_t vocab_size, Verify verify = Verify::kCached);
  ~Dataset();
  Dataset(Dataset&&) noexcept;
  Dataset& operator=(Dataset&&) noexcept;

  int64_t size() const;  // tokens
  // Copies tokens [begin, begin + count) to `out`.
  void copy(int64_t begin, int64_t count, int64_t* out) const;
  const std::vector<std::filesystem::path>& paths() const;
  // The tokenizer that the manifest.json beside the files names; empty where there is none.
  const std::string& tokenizer() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace power::data
