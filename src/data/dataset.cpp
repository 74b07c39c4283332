#include "data/dataset.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "core/file.h"
#include "core/progress.h"
#include "data/manifest.h"
#include "data/scan_cache.h"
#include "data/shard.h"

namespace power::data {

struct Dataset::Impl {
  std::vector<Shard> shards;
  std::vector<std::filesystem::path> paths;
  std::vector<int64_t> begins;  // first token of each shard in the whole, then the whole's size
  int64_t vocab_size = 0;
  std::string tokenizer;

  void verify_ids(Verify verify) {
    if (verify == Verify::kOff) return;
    ProgressBar bar("check tokens", begins.back(), "tok");
    for (size_t s = 0; s < shards.size(); ++s) {
      const Shard& shard = shards[s];
      std::optional<int64_t> largest;
      if (verify == Verify::kCached) largest = cached_largest_id(shard);
      if (!largest) {
        largest = shard.largest_id([&](int64_t done) { bar.update(begins[s] + done); });
        remember_largest_id(shard, *largest);
      }
      if (*largest >= vocab_size) shard.fail_id(*largest, -1, vocab_size);
    }
  }
};

Dataset::Dataset(const std::vector<std::string>& patterns, int64_t vocab_size, Verify verify)
    : impl_(std::make_unique<Impl>()) {
  require(!patterns.empty(), ErrorKind::kData, "no data files named");
  impl_->vocab_size = vocab_size;
  impl_->begins.push_back(0);
  for (const std::string& pattern : patterns) {
    for (const std::filesystem::path& path : glob_paths(pattern)) {
      impl_->shards.emplace_back(path);
      const Shard& shard = impl_->shards.back();
      impl_->paths.push_back(path);
      impl_->begins.push_back(impl_->begins.back() + shard.tokens());
      if (const std::optional<ManifestEntry> entry = manifest_entry_of(path)) {
        require(entry->tokens == shard.tokens(), ErrorKind::kData, path.string(), ": holds ", shard.tokens(),
                " tokens, but the manifest.json beside it says ", entry->tokens,
                "; it is truncated or was replaced, make it again with `powertrain data tokenize`");
        if (impl_->tokenizer.empty()) impl_->tokenizer = entry->tokenizer;
        require(impl_->tokenizer == entry->tokenizer, ErrorKind::kData, path.string(), ": made with tokenizer ",
                entry->tokenizer, ", other files of this data set with ", impl_->tokenizer);
      }
    }
  }
  impl_->verify_ids(verify);
}

Dataset::~Dataset() = default;
Dataset::Dataset(Dataset&&) noexcept = default;
Dataset& Dataset::operator=(Dataset&&) noexcept = default;

int64_t Dataset::size() const { return impl_->begins.back(); }

const std::vector<std::filesystem::path>& Dataset::paths() const { return impl_->paths; }

const std::string& Dataset::tokenizer() const { return impl_->tokenizer; }

void Dataset::copy(int64_t begin, int64_t count, int64_t* out) const {
  require(begin >= 0 && count >= 0 && count <= size() - begin, ErrorKind::kData, "tokens [", begin, ", ", begin + count,
          ") are outside the data set of ", size(), " tokens");
  const std::vector<int64_t>& begins = impl_->begins;
  auto shard = static_cast<size_t>(std::upper_bound(begins.begin(), begins.end(), begin) - begins.begin() - 1);
  while (count > 0) {
    const int64_t take = std::min(count, begins[shard + 1] - begin);
    impl_->shards[shard].copy(begin - begins[shard], take, out, impl_->vocab_size);
    begin += take;
    out += take;
    count -= take;
    ++shard;
  }
}

}  // namespace power::data
