// Arbitrary text through the tokenizers: it decodes to itself, whole or cut into blocks, as one document, lines or
// between markers, and as JSON lines it is refused with Error(kData) or read.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "data/block_encoder.h"
#include "data/document_splitter.h"
#include "data/tokenizer.h"

namespace {

using namespace power::data;

const Tokenizer& tokenizer() {
  static const std::unique_ptr<Tokenizer> gpt2 = make_tokenizer("gpt2");
  return *gpt2;
}

std::vector<uint16_t> in_blocks(std::string_view text, DocumentMode mode, size_t block_bytes, bool jsonl) {
  std::vector<uint16_t> ids;
  DocumentSplitter splitter(mode, block_bytes, [&](TextBlock&& block) {
    const TokenBlock encoded = encode_block(tokenizer(), block);
    ids.insert(ids.end(), encoded.tokens.begin(), encoded.tokens.end());
  });
  splitter.begin_text("fuzz", jsonl);
  for (size_t pos = 0; pos < text.size(); pos += 5) splitter.add(text.substr(pos, 5));
  splitter.end_text();
  splitter.finish();
  return ids;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<uint16_t> ids = tokenizer().encode(text);
  if (tokenizer().decode(ids) != text) std::abort();
  Utf8Stream stream;
  std::string shown;
  for (const uint16_t id : ids) shown += stream.push(tokenizer().token_bytes(id));
  if (shown + stream.finish() != text) std::abort();
  if (size > 0) ids.push_back(static_cast<uint16_t>(tokenizer().end_of_text()));
  for (const DocumentMode mode : {DocumentMode::kFile, DocumentMode::kLine, DocumentMode::kEot}) {
    const std::vector<uint16_t> small = in_blocks(text, mode, 1, false);
    if (small != in_blocks(text, mode, size + 1, false)) std::abort();
    if (mode == DocumentMode::kFile && small != ids) std::abort();
  }
  try {
    in_blocks(text, DocumentMode::kFile, 1, true);
  } catch (const power::Error& error) {
    if (error.kind() != power::ErrorKind::kData) std::abort();
  }
  return 0;
}
