#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/run_config.h"

// Text to typed values and back, strictly: the whole text counts, nothing is guessed.
namespace power::config {

struct Key;

// Decimal only. No leading zero (YAML 1.1 reads 010 as 8), no sign but a minus, no blanks, no underscores.
std::optional<int64_t> parse_integer(std::string_view text);
// Decimal, finite, with or without exponent.
std::optional<double> parse_number(std::string_view text);
// true, false, True, False and nothing else.
std::optional<bool> parse_boolean(std::string_view text);
// "[a, b]", "a,b" or "a"; nullopt where an entry is empty or the brackets do not match.
std::optional<std::vector<std::string>> parse_list(std::string_view text);

// Shortest text that reads back as the same number.
std::string format_value(double value);

// Sets the key's member from text. Returns what is wrong, or an empty string (the member is unchanged when wrong).
std::string set_value(RunConfig& config, const Key& key, const std::string& text);
// The text that set_value reads back.
std::string get_value(const RunConfig& config, const Key& key);

}  // namespace power::config
