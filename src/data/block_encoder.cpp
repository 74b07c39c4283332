#include "data/block_encoder.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"

namespace power::data {
namespace {

void encode_document(const Tokenizer& tokenizer, std::string_view text, TokenBlock& out) {
  tokenizer.encode(text, out.tokens);
  out.tokens.push_back(static_cast<uint16_t>(tokenizer.end_of_text()));
  out.ends.push_back(out.tokens.size());
  out.text_bytes += static_cast<int64_t>(text.size());
}

std::string json_text(std::string_view line, const std::string& where) {
  nlohmann::json value;
  try {
    value = nlohmann::json::parse(line);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::kData, where, ": not JSON: ", error.what());
  }
  const auto text = value.is_object() ? value.find("text") : value.end();
  require(value.is_object() && text != value.end() && text->is_string(), ErrorKind::kData, where,
          ": a JSON line must be an object with a string field \"text\"");
  return text->get<std::string>();
}

void encode_json_lines(const Tokenizer& tokenizer, const TextBlock& block, TokenBlock& out) {
  std::string_view rest = block.text;
  for (int64_t line_number = block.first_line; !rest.empty(); ++line_number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string text = json_text(line, power::str(block.name, ":", line_number));
    if (!text.empty()) encode_document(tokenizer, text, out);
  }
}

}  // namespace

TokenBlock encode_block(const Tokenizer& tokenizer, const TextBlock& block) {
  TokenBlock out;
  out.tokens.reserve(block.text.size() / 3);
  if (block.jsonl) {
    encode_json_lines(tokenizer, block, out);
    return out;
  }
  const std::string_view text = block.text;
  size_t begin = 0;
  for (const size_t end : block.ends) {
    encode_document(tokenizer, text.substr(begin, end - begin), out);
    begin = end;
  }
  tokenizer.encode(text.substr(begin), out.tokens);
  out.text_bytes += static_cast<int64_t>(text.size() - begin);
  return out;
}

BlockEncoder::BlockEncoder(const Tokenizer& tokenizer, int threads, std::function<void(TokenBlock&&)> write)
    : tokenizer_(tokenizer), write_(std::move(write)) {
  for (int i = 0; i < std::max(1, threads); ++i) threads_.emplace_back([this] { work(); });
}

BlockEncoder::~BlockEncoder() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    tasks_.clear();
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void BlockEncoder::work() {
  for (;;) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stop_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    std::packaged_task<TokenBlock()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();  // what it throws is thrown again where the result is taken
  }
}

void BlockEncoder::push(TextBlock&& block) {
  std::packaged_task<TokenBlock()> task(
      [this, held = std::make_shared<TextBlock>(std::move(block))] { return encode_block(tokenizer_, *held); });
  under_way_.push_back(task.get_future());
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
  while (under_way_.size() > 2 * threads_.size()) write_oldest();
}

void BlockEncoder::finish() {
  while (!under_way_.empty()) write_oldest();
}

void BlockEncoder::write_oldest() {
  TokenBlock block = under_way_.front().get();
  under_way_.pop_front();
  write_(std::move(block));
}

}  // namespace power::data
