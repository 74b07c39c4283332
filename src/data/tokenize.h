#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/document_splitter.h"
#include "data/manifest.h"

namespace power::data {

struct TokenizeOptions {
  std::vector<std::string> inputs;  // files or shell patterns: text, .jsonl, tar; .gz, .bz2, .xz, .zst of these
  std::string out;                  // folder for train.bin, val.bin, manifest.json
  std::string tokenizer = "gpt2";
  std::vector<std::string> val;  // held-out text; empty: val_fraction of the inputs
  double val_fraction = 0.0005;  // 0: no val.bin
  uint64_t seed = 2357;          // nanoGPT's OpenWebText recipe
  DocumentMode document = DocumentMode::kFile;
  int threads = 0;  // 0: every core
  // Bytes of input files read, and their total.
  std::function<void(int64_t done, int64_t total)> progress;
};

// "file", "line", "eot"; throws Error(kUsage).
DocumentMode parse_document_mode(const std::string& name);
const char* document_mode_name(DocumentMode mode);

// Text files to token files (raw uint16, end of text after every document) with a manifest. Outputs appear complete or
// not at all: an error or an interrupt (Error(kPreempted)) leaves the folder as it was.
Manifest tokenize(const TokenizeOptions& options);

// The text of a token file, in pieces, to `write`: nothing for an end of text at the very end, kDocumentSeparator for
// others. `tokenizer` empty: the manifest's beside the file, else gpt2.
void decode_file(const std::filesystem::path& file, const std::string& tokenizer,
                 const std::function<void(std::string_view)>& write);

}  // namespace power::data
