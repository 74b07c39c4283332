#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

// JSON from files that may be damaged or hostile. nlohmann-json alone silently keeps the last of two equal keys.
namespace power::checkpoint {

// Parses `text`, at most `max_bytes` long; `source` names it in messages. Throws Error(kData) on bad syntax, a key
// given twice in one object, nesting deeper than 32, or a number that does not fit its type.
nlohmann::json parse_strict_json(std::string_view text, const std::string& source, size_t max_bytes = size_t{1} << 20);

// Makes text from a file safe for a terminal: control characters become \xNN, and it is cut after 200 characters.
std::string printable(std::string_view text);

}  // namespace power::checkpoint
