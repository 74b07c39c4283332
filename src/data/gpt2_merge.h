#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/gpt2_tables.h"

namespace power::data {

// Byte pair encoding of one word: as long as two neighbours together are a token, joins the two of the lowest rank (the
// leftmost of equals). Appends to `ids`.
void gpt2_merge(const Gpt2Tables& tables, std::string_view word, std::vector<uint16_t>& ids);

}  // namespace power::data
