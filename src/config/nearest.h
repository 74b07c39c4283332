#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace power::config {

// Fewest insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b);
// The candidate with the smallest edit distance, of equal ones the first that contains `name`; "" for no candidates.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace power::config
