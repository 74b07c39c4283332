#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace power::config {

struct YamlEntry {
  std::string key;
  std::string value;  // the scalar's text, a list as "[a, b]"
  int line = 0;
};

// Reads one flat YAML mapping of scalars and lists of scalars. Values stay text: what they mean is the schema's affair,
// so none of YAML's guesses (010 is 8, yes is true) applies. Throws Error(kUsage) with NAME:LINE for anything else: a
// syntax error, a duplicate key, nesting, an anchor, alias or tag, an empty value, several documents, more than 1 MB,
// bytes that are not UTF-8 text.
std::vector<YamlEntry> read_yaml(std::string_view text, const std::string& name);

// The text as a YAML scalar: plain where that is safe, else in double quotes.
std::string yaml_scalar(const std::string& text);

}  // namespace power::config
