#include "config/yaml_reader.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <map>
#include <sstream>

#include "config/value.h"
#include "core/error.h"

namespace power::config {
namespace {

constexpr size_t kLargestFile = 1 << 20;

[[noreturn]] void fail_at(const std::string& name, int line, const std::string& problem) {
  fail(ErrorKind::kUsage, name, ":", line, ": ", problem);
}

// Bytes of the UTF-8 character that starts at `text`, 0 where there is none (RFC 3629).
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0; };
  const auto follows = [&](size_t i, int low = 0x80, int high = 0xbf) { return byte(i) >= low && byte(i) <= high; };
  const int first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    return follows(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf) && follows(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    return follows(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

// yaml-cpp silently stops reading at byte 4 and replaces invalid UTF-8, so neither may get that far.
void require_text(std::string_view text, const std::string& name) {
  int line = 1;
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(text.substr(i));
    const auto byte = static_cast<unsigned char>(text[i]);
    if (length == 0) fail_at(name, line, "not UTF-8 text; save the file as UTF-8");
    if ((byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f) {
      fail_at(name, line, str("control character ", static_cast<int>(byte), "; remove it"));
    }
    if (byte == '\n') ++line;
    i += length;
  }
}

// Collects the entries of one flat mapping from the parser's events, which show what a parsed tree hides: duplicate
// keys, aliases, tags.
class FlatMapping : public YAML::EventHandler {
 public:
  FlatMapping(std::string_view text, const std::string& name) : text_(text), name_(name) {
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\n') line_starts_.push_back(i + 1);
    }
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0) fail_at(mark, "a second document; keep one");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (where_ == Where::kOutside) return;  // an empty file: nothing is set
    refuse_anchor(mark, anchor);
    if (where_ == Where::kKey) fail_at(mark, "an empty key; write KEY: VALUE");
    if (where_ == Where::kList) fail_at(mark, "an empty entry in the list; remove it");
    config::fail_at(name_, entry_.line,
                    "'" + entry_.key + "' has no value; write one, or remove the line for the default");
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail_at(mark, "aliases are not read; write the value out");
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_tag(mark, tag);
    refuse_anchor(mark, anchor);
    require_closed_quote(mark);
    switch (where_) {
      case Where::kOutside:
        fail_at(mark, "not a mapping; write KEY: VALUE lines");
      case Where::kKey:
        entry_ = {value, "", mark.line + 1};
        if (const auto [first, added] = lines_.emplace(value, entry_.line); !added) {
          fail_at(mark, "'" + value + "' is set twice, first in line " + std::to_string(first->second) + "; keep one");
        }
        where_ = Where::kValue;
        break;
      case Where::kValue:
        entry_.value = value;
        finish_entry();
        break;
      case Where::kList:
        if (value.find_first_of(",[]") != std::string::npos) fail_at(mark, "'" + value + "' cannot be in a list");
        entry_.value += (entry_.value == "[" ? "" : ", ") + value;
        break;
    }
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    refuse_tag(mark, tag);
    refuse_anchor(mark, anchor);
    if (where_ == Where::kOutside) fail_at(mark, "a list; write KEY: VALUE lines");
    if (where_ == Where::kKey) fail_at(mark, "a list as a key; write KEY: VALUE");
    if (where_ == Where::kList) fail_at(mark, "a list in a list; keys are flat");
    entry_.value = "[";
    where_ = Where::kList;
  }
  void OnSequenceEnd() override {
    entry_.value += "]";
    finish_entry();
  }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    refuse_tag(mark, tag);
    refuse_anchor(mark, anchor);
    if (where_ == Where::kList) fail_at(mark, "a list holds plain values only, and ends with ]");
    if (where_ != Where::kOutside) fail_at(mark, "a mapping inside the mapping; keys are flat: write KEY: VALUE lines");
    where_ = Where::kKey;
  }
  void OnMapEnd() override { where_ = Where::kOutside; }

  std::vector<YamlEntry> take() { return std::move(entries_); }

 private:
  enum class Where { kOutside, kKey, kValue, kList };

  [[noreturn]] void fail_at(const YAML::Mark& mark, const std::string& problem) const {
    config::fail_at(name_, mark.line + 1, problem);
  }
  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor != 0) fail_at(mark, "anchors are not read; remove the &NAME");
  }
  // "?" is a plain scalar or collection, "!" a quoted scalar.
  void refuse_tag(const YAML::Mark& mark, const std::string& tag) const {
    if (!tag.empty() && tag != "?" && tag != "!") fail_at(mark, "tags are not read; remove the '" + tag + "'");
  }
  // yaml-cpp takes a quote that is never closed to end with the file, and swallows the lines between.
  void require_closed_quote(const YAML::Mark& mark) const {
    const std::string_view rest = rest_of_line(mark);
    if (rest.empty() || (rest[0] != '"' && rest[0] != '\'')) return;
    for (size_t i = 1; i < rest.size(); ++i) {
      if (rest[i] == '\\' && rest[0] == '"') {
        ++i;
      } else if (rest.substr(i, 2) == "''" && rest[0] == '\'') {
        ++i;
      } else if (rest[i] == rest[0]) {
        return;
      }
    }
    fail_at(mark, "the quote is not closed in this line");
  }
  std::string_view rest_of_line(const YAML::Mark& mark) const {
    const size_t begin = line_starts_.at(static_cast<size_t>(mark.line));
    const std::string_view line = text_.substr(begin, text_.find('\n', begin) - begin);
    const size_t byte_order_mark = mark.line == 0 && line.substr(0, 3) == "\xEF\xBB\xBF" ? 3 : 0;
    const size_t column = byte_order_mark + static_cast<size_t>(mark.column);
    return column < line.size() ? line.substr(column) : std::string_view();
  }
  void finish_entry() {
    entries_.push_back(std::move(entry_));
    where_ = Where::kKey;
  }

  std::string_view text_;
  std::vector<size_t> line_starts_ = {0};
  std::string name_;
  Where where_ = Where::kOutside;
  int documents_ = 0;
  YamlEntry entry_;
  std::map<std::string, int> lines_;
  std::vector<YamlEntry> entries_;
};

}  // namespace

std::vector<YamlEntry> read_yaml(std::string_view text, const std::string& name) {
  require(text.size() <= kLargestFile, ErrorKind::kUsage, name, ": ", text.size(),
          " bytes; a configuration has at most 1 MB");
  require_text(text, name);
  std::istringstream stream{std::string(text)};
  FlatMapping mapping(text, name);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(mapping)) {
    }
  } catch (const YAML::Exception& error) {
    fail_at(name, error.mark.is_null() ? 1 : error.mark.line + 1, "not YAML: " + error.msg);
  }
  return mapping.take();
}

std::string yaml_scalar(const std::string& text) {
  const bool word = text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-:") ==
                    std::string::npos;
  const bool safe = word && !text.empty() && text.find_first_of(":-") != 0 && text.back() != ':' && text != "null" &&
                    text != "Null" && text != "NULL" && text.find("---") == std::string::npos;
  if (safe) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

}  // namespace power::config
