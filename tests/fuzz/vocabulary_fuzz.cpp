// The GPT-2 vocabulary reader: the bytes up to the first 0 are vocab.bpe, the rest is encoder.json.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "data/gpt2_vocabulary.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace power;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t split = std::min(text.find('\0'), size);
  try {
    const data::Gpt2Vocabulary vocabulary = data::parse_gpt2_merges(text.substr(0, split));
    if (data::token_strings(vocabulary).size() != 256 + vocabulary.merges.size()) std::abort();
    data::check_gpt2_encoder(vocabulary, text.substr(std::min(split + 1, size)));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kData) std::abort();
  }
  return 0;
}
