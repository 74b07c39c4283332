#pragma once

#include <cstdint>
#include <filesystem>

namespace power::data {

struct HeldOut {
  int64_t train_tokens = 0, val_tokens = 0;
  int64_t train_documents = 0, val_documents = 0;
};

// Moves part of `train` (raw uint16 tokens) into a new file `val`, in place and with constant memory. ceil(fraction *
// documents) whole documents, at least one and not all, by a permutation of `seed`; both files keep their order. Where
// there are fewer than two documents, the last ceil(fraction * tokens) tokens.
// `document_ends` holds the token position after each document, as uint64.
HeldOut hold_out(const std::filesystem::path& train, const std::filesystem::path& document_ends,
                 const std::filesystem::path& val, double fraction, uint64_t seed);

}  // namespace power::data
