#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "data/document_splitter.h"
#include "data/tokenizer.h"

namespace power::data {

struct TokenBlock {
  std::vector<uint16_t> tokens;
  std::vector<size_t> ends;  // where documents end in `tokens`, after their end of text
  int64_t text_bytes = 0;
};

// Throws Error(kData) for a bad JSON line, with its number.
TokenBlock encode_block(const Tokenizer& tokenizer, const TextBlock& block);

// Tokenizes blocks on several threads and hands them on in their order, on the caller's thread. At most two blocks a
// thread are under way, so that memory does not grow with the text.
class BlockEncoder {
 public:
  BlockEncoder(const Tokenizer& tokenizer, int threads, std::function<void(TokenBlock&&)> write);
  ~BlockEncoder();
  void push(TextBlock&& block);
  void finish();

 private:
  void work();
  void write_oldest();

  const Tokenizer& tokenizer_;
  std::function<void(TokenBlock&&)> write_;
  std::deque<std::future<TokenBlock>> under_way_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<TokenBlock()>> tasks_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace power::data
