#include "data/tokenize.h"

#include <sched.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "core/error.h"
#include "core/file.h"
#include "data/block_encoder.h"
#include "data/held_out.h"
#include "data/shard.h"
#include "data/text_source.h"
#include "data/tokenizer.h"

namespace power::data {
namespace fs = std::filesystem;

namespace {

constexpr size_t kBlockBytes = 1 << 20;
constexpr int64_t kDecodeTokens = 1 << 18;

// Files under their temporary names; those not committed are removed.
class Outputs {
 public:
  explicit Outputs(fs::path folder) : folder_(std::move(folder)) {}
  ~Outputs() {
    std::error_code ignored;
    for (const std::string& name : names_) fs::remove(temporary(name), ignored);
    if (created_) fs::remove(folder_, ignored);  // only where it is empty
  }
  void create_folder() { created_ = fs::create_directories(folder_); }
  fs::path add(const std::string& name) {
    names_.push_back(name);
    return temporary(name);
  }
  fs::path temporary(const std::string& name) const { return folder_ / (name + ".tmp"); }
  // A crash between the renames leaves no manifest that tells of other files.
  void commit(const std::vector<std::string>& names, const std::string& manifest) {
    fs::remove(folder_ / "manifest.json");
    fs::remove(folder_ / "val.bin");  // of an earlier run; this one may have none
    for (const std::string& name : names) fs::rename(temporary(name), folder_ / name);
    write_file_atomic(folder_ / "manifest.json", manifest);
  }

 private:
  fs::path folder_;
  std::vector<std::string> names_;
  bool created_ = false;
};

struct Written {
  int64_t tokens = 0, documents = 0, text_bytes = 0;
};

class Run {
 public:
  explicit Run(const TokenizeOptions& options)
      : options_(options),
        tokenizer_(make_tokenizer(options.tokenizer)),
        inputs_(expand(options.inputs)),
        val_(expand(options.val)),
        outputs_(options.out) {
    require(!inputs_.empty(), ErrorKind::kUsage, "no input files named");
    require(options.val_fraction >= 0 && options.val_fraction < 1, ErrorKind::kUsage, "val_fraction ",
            options.val_fraction, " must be at least 0 and below 1");
    for (const std::vector<fs::path>* files : {&inputs_, &val_}) {
      for (const fs::path& file : *files) {
        std::error_code error;
        total_bytes_ += static_cast<int64_t>(fs::file_size(file, error));
        require(!error, ErrorKind::kData, file.string(), ": cannot be read: ", error.message());
      }
    }
  }

  Manifest operator()() {
    outputs_.create_folder();
    const bool split = val_.empty() && options_.val_fraction > 0;
    Written train = encode(inputs_, "train.bin", split);
    Written val;
    std::vector<std::string> names = {"train.bin"};
    if (split) {
      const fs::path val_path = outputs_.add("val.bin");
      const HeldOut parts = hold_out(outputs_.temporary("train.bin"), outputs_.temporary("documents"), val_path,
                                     options_.val_fraction, options_.seed);
      val = {parts.val_tokens, parts.val_documents, text_bytes_of(val_path)};
      train = {parts.train_tokens, parts.train_documents, train.text_bytes - val.text_bytes};
      names.push_back("val.bin");
    } else if (!val_.empty()) {
      val = encode(val_, "val.bin", false);
      names.push_back("val.bin");
    }
    Manifest manifest = describe();
    for (const std::string& name : names) manifest.files.push_back(entry(name, name == "train.bin" ? train : val));
    outputs_.commit(names, format_manifest(manifest));
    return manifest;
  }

 private:
  static std::vector<fs::path> expand(const std::vector<std::string>& patterns) {
    std::vector<fs::path> files;
    for (const std::string& pattern : patterns) {
      for (fs::path& path : glob_paths(pattern)) files.push_back(std::move(path));
    }
    return files;
  }

  Written encode(const std::vector<fs::path>& files, const std::string& name, bool list_documents) {
    Written written;
    FileWriter tokens(outputs_.add(name));
    std::unique_ptr<FileWriter> ends;
    if (list_documents) ends = std::make_unique<FileWriter>(outputs_.add("documents"));
    std::vector<uint64_t> positions;
    BlockEncoder encoder(*tokenizer_, threads(), [&](TokenBlock&& block) {
      tokens.write(block.tokens.data(), block.tokens.size() * sizeof(uint16_t));
      if (ends) {
        positions.clear();
        for (const size_t end : block.ends) positions.push_back(static_cast<uint64_t>(written.tokens) + end);
        ends->write(positions.data(), positions.size() * sizeof(uint64_t));
      }
      written.tokens += static_cast<int64_t>(block.tokens.size());
      written.documents += static_cast<int64_t>(block.ends.size());
      written.text_bytes += block.text_bytes;
    });
    DocumentSplitter splitter(options_.document, kBlockBytes,
                              [&](TextBlock&& block) { encoder.push(std::move(block)); });
    for (const fs::path& file : files) {
      const int64_t before = done_bytes_;
      read_text(file, splitter, [&](int64_t consumed) {
        done_bytes_ = before + consumed;
        if (options_.progress) options_.progress(done_bytes_, total_bytes_);
      });
    }
    splitter.finish();
    encoder.finish();
    require(written.tokens > 0, ErrorKind::kData, files.front().string(), files.size() > 1 ? " and the others" : "",
            ": no text to tokenize; the input is empty");
    tokens.close();
    if (ends) ends->close();
    return written;
  }

  int threads() const {
    if (options_.threads > 0) return options_.threads;
    cpu_set_t cores;  // those this process may use
    return ::sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
  }

  int64_t text_bytes_of(const fs::path& tokens) const {
    const MappedFile file(tokens);
    const auto* ids = reinterpret_cast<const uint16_t*>(file.data());
    return std::accumulate(ids, ids + file.size() / 2, int64_t{0}, [&](int64_t sum, uint16_t id) {
      return sum + static_cast<int64_t>(tokenizer_->token_bytes(id).size());
    });
  }

  Manifest describe() const {
    Manifest manifest;
    manifest.tokenizer = tokenizer_->name();
    manifest.vocab_size = tokenizer_->vocab_size();
    manifest.document = document_mode_name(options_.document);
    manifest.val_fraction = val_.empty() ? options_.val_fraction : 0;
    manifest.seed = options_.seed;
    for (const fs::path& file : inputs_) manifest.inputs.push_back(file.filename().string());
    for (const fs::path& file : val_) manifest.inputs.push_back(file.filename().string());
    return manifest;
  }

  ManifestEntry entry(const std::string& name, const Written& written) const {
    const MappedFile file(outputs_.temporary(name));
    ManifestEntry result;
    result.name = name;
    result.split = name == "train.bin" ? "train" : "val";
    result.tokenizer = tokenizer_->name();
    result.vocab_size = tokenizer_->vocab_size();
    result.tokens = written.tokens;
    result.documents = written.documents;
    result.text_bytes = written.text_bytes;
    result.largest_id = Shard(outputs_.temporary(name)).largest_id();
    result.xxh3_128 = hash_bytes(file.data(), file.size());
    return result;
  }

  const TokenizeOptions& options_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<fs::path> inputs_, val_;
  Outputs outputs_;
  int64_t done_bytes_ = 0, total_bytes_ = 0;
};

}  // namespace

DocumentMode parse_document_mode(const std::string& name) {
  for (const DocumentMode mode : {DocumentMode::kFile, DocumentMode::kLine, DocumentMode::kEot}) {
    if (name == document_mode_name(mode)) return mode;
  }
  fail(ErrorKind::kUsage, "unknown document mode \"", name, "\"; there are file, line and eot");
}

const char* document_mode_name(DocumentMode mode) {
  return mode == DocumentMode::kFile ? "file" : mode == DocumentMode::kLine ? "line" : "eot";
}

Manifest tokenize(const TokenizeOptions& options) { return Run(options)(); }

void decode_file(const fs::path& file, const std::string& tokenizer_name,
                 const std::function<void(std::string_view)>& write) {
  const Shard shard(file);
  std::string name = tokenizer_name;
  if (name.empty()) {
    const std::optional<ManifestEntry> entry = manifest_entry_of(file);
    name = entry ? entry->tokenizer : "gpt2";
  }
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(name);
  std::vector<int64_t> ids(static_cast<size_t>(std::min(kDecodeTokens, shard.tokens())));
  bool pending_end = false;
  std::string text;
  for (int64_t begin = 0; begin < shard.tokens(); begin += kDecodeTokens) {
    const int64_t count = std::min(kDecodeTokens, shard.tokens() - begin);
    shard.copy(begin, count, ids.data(), tokenizer->vocab_size());
    text.clear();
    for (int64_t i = 0; i < count; ++i) {
      if (pending_end) text += kDocumentSeparator;
      const int64_t id = ids[static_cast<size_t>(i)];
      pending_end = id == tokenizer->end_of_text();
      text += tokenizer->token_bytes(id);
    }
    write(text);
  }
}

}  // namespace power::data
