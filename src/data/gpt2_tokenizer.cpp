#include "data/gpt2_tokenizer.h"

#include <cstring>

#include "core/error.h"
#include "data/gpt2_merge.h"
#include "data/gpt2_words.h"

namespace power::data {
namespace {

// Words and their tokens, as last seen. Text repeats its words, so nearly all of them are found here; one entry is one
// cache line, and the whole stays in the second-level cache.
class WordCache {
 public:
  static constexpr size_t kMaxWord = 46, kMaxTokens = 8;

  struct alignas(64) Entry {
    uint8_t size = 0;  // 0: empty
    uint8_t count = 0;
    uint16_t ids[kMaxTokens];
    char word[kMaxWord];
  };
  static_assert(sizeof(Entry) == 64);

  Entry& entry(std::string_view word) { return entries_[hash_word(word.data(), word.size()) % kEntries]; }
  static bool holds(const Entry& entry, std::string_view word) {
    return entry.size == word.size() && std::memcmp(entry.word, word.data(), word.size()) == 0;
  }
  static void store(Entry& entry, std::string_view word, const uint16_t* ids, size_t count) {
    if (count > kMaxTokens) return;
    entry.size = static_cast<uint8_t>(word.size());
    entry.count = static_cast<uint8_t>(count);
    std::memcpy(entry.word, word.data(), word.size());
    std::memcpy(entry.ids, ids, count * sizeof(uint16_t));
  }

 private:
  static constexpr size_t kEntries = 1 << 15;
  std::vector<Entry> entries_ = std::vector<Entry>(kEntries);
};

// The vocabulary is one, so the cache serves every tokenizer of the thread.
WordCache& thread_cache() {
  thread_local WordCache cache;
  return cache;
}

}  // namespace

void Gpt2Tokenizer::encode(std::string_view text, std::vector<uint16_t>& ids) const {
  WordCache& cache = thread_cache();
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = gpt2_word_end(characters_, text, begin);
    const std::string_view word = text.substr(begin, end - begin);
    begin = end;
    WordCache::Entry* entry = word.size() <= WordCache::kMaxWord ? &cache.entry(word) : nullptr;
    if (entry != nullptr && WordCache::holds(*entry, word)) {
      ids.insert(ids.end(), entry->ids, entry->ids + entry->count);
      continue;
    }
    const size_t first = ids.size();
    // A word that is a token is that token, whatever the merges would make of it.
    const uint32_t whole = tables_.find(word.data(), word.size());
    if (whole != Gpt2Tables::kNone) {
      ids.push_back(static_cast<uint16_t>(whole));
    } else {
      gpt2_merge(tables_, word, ids);
    }
    if (entry != nullptr) WordCache::store(*entry, word, ids.data() + first, ids.size() - first);
  }
}

std::string_view Gpt2Tokenizer::token_bytes(int64_t id) const {
  require(id >= 0 && id < vocab_size(), ErrorKind::kData, "token id ", id, " is not below the vocabulary size ",
          vocab_size(), " of tokenizer gpt2");
  return tables_.bytes(id);
}

}  // namespace power::data
