#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/text_source.h"

namespace power::data {

// What a document is: a whole file (or archive entry), a line, or the text between the markers of kDocumentSeparator.
enum class DocumentMode { kFile, kLine, kEot };

inline constexpr std::string_view kDocumentSeparator = "\n<|endoftext|>\n";

// A piece of text of about a megabyte that can be tokenized alone: the tokens of the blocks, one after the other, are
// the tokens of the whole.
struct TextBlock {
  std::string text;
  std::vector<size_t> ends;  // where documents end in `text`; what follows the last goes on in the next block
  bool jsonl = false;        // lines of JSON instead, each with its document in the field "text"
  std::string name;          // for messages about JSON lines
  int64_t first_line = 0;
};

// Cuts texts into blocks. Empty documents are left out, except those that a marker ends: a marker at the end of a text
// ends its last document and begins no other.
class DocumentSplitter : public TextSink {
 public:
  DocumentSplitter(DocumentMode mode, size_t block_bytes, std::function<void(TextBlock&&)> emit);

  void begin_text(const std::string& name, bool jsonl) override;
  void add(std::string_view bytes) override;
  void end_text() override;
  // Gives out what is left, after the last text.
  void finish();

 private:
  void add_lines(std::string_view bytes);
  void add_between_markers(std::string_view bytes);
  void add_json(std::string_view bytes);
  void end_document();
  void emit_if_full();
  void emit_up_to(size_t cut);

  DocumentMode mode_;
  size_t block_bytes_;
  std::function<void(TextBlock&&)> emit_;
  TextBlock block_;
  std::string held_;           // may be the beginning of a marker
  size_t document_bytes_ = 0;  // of the open document, including what earlier blocks hold
  size_t next_try_ = 0;        // no place to cut was found below this size
  int64_t line_ = 1;
  bool jsonl_ = false;
};

// A place in text[begin, size) where the text can be cut without changing its tokens, as far right as it can be found;
// `begin` where there is none. Between a character that is no whitespace and a whitespace every tokenizer here has a
// boundary, whatever comes before and after.
size_t find_cut(std::string_view text, size_t begin);

}  // namespace power::data
