#include "data/tokenize.h"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <random>

#include "core/file.h"
#include "core/interrupt.h"
#include "data/dataset.h"
#include "data/inspect.h"
#include "data/tokenizer.h"
#include "tests/data/token_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace power::data {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::write_text;

// Files as (name, text) in an archive; a filter of ARCHIVE_FILTER_NONE leaves it uncompressed. raw: one text, no tar.
std::string pack(int filter, bool raw, const std::vector<std::pair<std::string, std::string>>& files) {
  archive* out = archive_write_new();
  archive_write_add_filter(out, filter);
  if (raw) {
    archive_write_set_format_raw(out);
  } else {
    archive_write_set_format_ustar(out);
  }
  std::string bytes(1 << 22, '\0');
  size_t used = 0;
  archive_write_open_memory(out, bytes.data(), bytes.size(), &used);
  for (const auto& [name, text] : files) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, name.c_str());
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, static_cast<la_int64_t>(text.size()));
    EXPECT_EQ(archive_write_header(out, entry), ARCHIVE_OK) << archive_error_string(out);
    archive_write_data(out, text.data(), text.size());
    archive_entry_free(entry);
  }
  archive_write_close(out);
  archive_write_free(out);
  bytes.resize(used);
  return bytes;
}

// Words, spaces of all kinds, long runs without a space, invalid bytes.
std::string mixed_text(size_t bytes, unsigned seed) {
  static const std::vector<std::string> kPieces = {"the ",
                                                   "word",
                                                   " and",
                                                   "\n",
                                                   "\n\n",
                                                   "  ",
                                                   "don't",
                                                   "\xC3\xA9",
                                                   "\xE2\x80\x83",
                                                   "\xC2\xA0",
                                                   " 12",
                                                   "!?",
                                                   "\t",
                                                   "\xFF",
                                                   "\xE6\x97\xA5\xE6\x9C\xAC",
                                                   "<|endoftext|>",
                                                   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
  std::mt19937 random(seed);
  std::string text;
  while (text.size() < bytes) text += kPieces[random() % kPieces.size()];
  return text;
}

class TokenizeTest : public ::testing::Test {
 protected:
  fs::path path(const std::string& name) const { return folder_ / name; }
  TokenizeOptions options(const std::vector<std::string>& inputs) const {
    TokenizeOptions result;
    for (const std::string& input : inputs) result.inputs.push_back(path(input).string());
    result.out = path("out").string();
    result.tokenizer = "bytes";
    result.val_fraction = 0;
    result.threads = 2;
    return result;
  }
  // The tokens of a file as text, with "|" for end of text.
  std::string text_of(const std::string& name) const {
    const Dataset data({path(name).string()}, 257);
    std::vector<int64_t> ids(static_cast<size_t>(data.size()));
    data.copy(0, data.size(), ids.data());
    std::string text;
    for (const int64_t id : ids) text += id == 256 ? '|' : static_cast<char>(id);
    return text;
  }
  std::string decoded(const std::string& name) const {
    std::string text;
    decode_file(path(name), "", [&](std::string_view piece) { text += piece; });
    return text;
  }
  std::string tokenized(TokenizeOptions opts, DocumentMode mode) {
    opts.document = mode;
    tokenize(opts);
    return text_of("out/train.bin");
  }

  test::TempFolder folder_;
};

TEST_F(TokenizeTest, DocumentsOfEveryKind) {
  write_text(path("a.txt"), "one\ntwo\n\nthree");
  write_text(path("b.txt"), "four\n");
  write_text(path("empty.txt"), "");
  const TokenizeOptions both = options({"a.txt", "empty.txt", "b.txt"});
  EXPECT_EQ(tokenized(both, DocumentMode::kFile), "one\ntwo\n\nthree|four\n|");
  EXPECT_EQ(tokenized(both, DocumentMode::kLine), "one|two|three|four|");
  EXPECT_EQ(tokenized(both, DocumentMode::kEot), "one\ntwo\n\nthree|four\n|");

  const std::string m = "\n<|endoftext|>\n";
  const auto eot = [&](const std::string& text) {
    write_text(path("m.txt"), text);
    return tokenized(options({"m.txt"}), DocumentMode::kEot);
  };
  EXPECT_EQ(eot("a" + m + "b" + m), "a|b|");
  EXPECT_EQ(eot("a" + m + "b"), "a|b|");
  EXPECT_EQ(eot("a" + m + m + "b"), "a||b|");
  EXPECT_EQ(eot(m + "b"), "|b|");
  EXPECT_EQ(eot("a\n" + m + "\nb"), "a\n|\nb|");
  EXPECT_EQ(eot("a <|endoftext|> b"), "a <|endoftext|> b|");
  EXPECT_EQ(eot("<|endoftext|>\na\n<|endoftext|>"), "<|endoftext|>\na\n<|endoftext|>|");
  EXPECT_EQ(eot("a" + m + "<|endoftext|>\nb"), "a|<|endoftext|>\nb|");
  EXPECT_EQ(eot("a\n<|endoftext|"), "a\n<|endoftext||");
}

TEST_F(TokenizeTest, DecodePrintsTheTextBack) {
  const std::string marked = mixed_text(50000, 1) + "\n<|endoftext|>\n" + mixed_text(3000, 2) + "\n<|endoftext|>\nend";
  write_text(path("m.txt"), marked);
  for (const std::string tokenizer : {"gpt2", "bytes"}) {
    for (const DocumentMode mode : {DocumentMode::kFile, DocumentMode::kEot}) {
      TokenizeOptions opts = options({"m.txt"});
      opts.tokenizer = tokenizer;
      opts.document = mode;
      tokenize(opts);
      EXPECT_EQ(decoded("out/train.bin"), marked) << tokenizer << " " << document_mode_name(mode);
    }
  }
}

// Blocks of any size give the tokens of the whole text: cuts are where every tokenizer has a boundary.
TEST_F(TokenizeTest, BlocksDoNotChangeTheTokens) {
  const auto tokenizer = make_tokenizer("gpt2");
  for (unsigned seed = 0; seed < 20; ++seed) {
    const std::string text = mixed_text(20000, seed);
    const std::vector<uint16_t> whole = tokenizer->encode(text);
    for (const size_t block_bytes : {1, 7, 100, 3000}) {
      std::vector<uint16_t> pieces;
      int blocks = 0;
      DocumentSplitter splitter(DocumentMode::kFile, block_bytes, [&](TextBlock&& block) {
        tokenizer->encode(block.text, pieces);
        ++blocks;
      });
      splitter.begin_text("text", false);
      for (size_t pos = 0; pos < text.size(); pos += 11) splitter.add(std::string_view(text).substr(pos, 11));
      splitter.end_text();
      splitter.finish();
      EXPECT_EQ(pieces, whole) << "seed " << seed << " block " << block_bytes;
      EXPECT_GT(blocks, 4);
    }
  }
}

TEST_F(TokenizeTest, ManyThreadsGiveTheSameFile) {
  for (int i = 0; i < 5; ++i) write_text(path("t" + std::to_string(i) + ".txt"), mixed_text(900000, 50U + i));
  TokenizeOptions opts = options({"t*.txt"});
  opts.tokenizer = "gpt2";
  opts.document = DocumentMode::kLine;
  opts.val_fraction = 0.01;
  opts.threads = 1;
  const Manifest one = tokenize(opts);
  opts.threads = 7;
  const Manifest seven = tokenize(opts);
  EXPECT_EQ(format_manifest(one), format_manifest(seven));
  EXPECT_EQ(one.files.at(0).documents + one.files.at(1).documents > 1000, true);
}

TEST_F(TokenizeTest, CompressedFilesAndArchives) {
  const std::string text = "some text\nof two lines";
  const std::vector<std::pair<const char*, int>> kinds = {{".gz", ARCHIVE_FILTER_GZIP},
                                                          {".bz2", ARCHIVE_FILTER_BZIP2},
                                                          {".xz", ARCHIVE_FILTER_XZ},
                                                          {".zst", ARCHIVE_FILTER_ZSTD}};
  for (const auto& [ending, filter] : kinds) {
    SCOPED_TRACE(ending);
    const std::string name = std::string("a.txt") + ending;
    write_text(path(name), pack(filter, true, {{"data", text}}));
    EXPECT_EQ(tokenized(options({name}), DocumentMode::kFile), text + "|");
    const std::string lines = std::string("l.jsonl") + ending;
    write_text(path(lines), pack(filter, true, {{"data", "{\"text\": \"x\"}\n\n{\"id\": 1, \"text\": \"y\\n\"}"}}));
    EXPECT_EQ(tokenized(options({lines}), DocumentMode::kFile), "x|y\n|");
    // Damage: cut short, and not compressed at all.
    const std::string packed = pack(filter, true, {{"data", mixed_text(200000, 3)}});
    write_text(path(name), packed.substr(0, packed.size() / 2));
    expect_error(ErrorKind::kData, "cannot be decompressed", [&] { tokenize(options({name})); });
    write_text(path(name), "plain text under a wrong name");
    expect_error(ErrorKind::kData, "is not compressed, though its name says so", [&] { tokenize(options({name})); });
  }
  // OpenWebText: a tar of compressed tars, the inner ones without .tar in their names.
  const std::string inner = pack(ARCHIVE_FILTER_XZ, false, {{"1.txt", "first"}, {"2.txt", "second"}});
  write_text(path("owt.tar"), pack(ARCHIVE_FILTER_NONE, false,
                                   {{"owt/urlsf_00_data.xz", inner}, {"owt/plain.txt", "third"}, {"e.txt", ""}}));
  EXPECT_EQ(tokenized(options({"owt.tar"}), DocumentMode::kFile), "first|second|third|");
  write_text(path("wrong.tar"), "no tar at all");
  expect_error(ErrorKind::kData, "holds no tar, though its name says so", [&] { tokenize(options({"wrong.tar"})); });
  std::string nested = "deep";
  for (int i = 0; i < 6; ++i) nested = pack(ARCHIVE_FILTER_NONE, false, {{"n.tar", nested}});
  write_text(path("deep.tar"), nested);
  expect_error(ErrorKind::kData, "nested more than 4 deep", [&] { tokenize(options({"deep.tar"})); });
}

TEST_F(TokenizeTest, JsonLines) {
  write_text(path("a.jsonl"), "{\"text\": \"caf\\u00e9\"}\r\n\n{\"text\": \"\"}\n{\"meta\": [1], \"text\": \"b\"}");
  write_text(path("b.txt"), "plain");
  EXPECT_EQ(tokenized(options({"a.jsonl", "b.txt"}), DocumentMode::kLine), "caf\xC3\xA9|b|plain|");
  const auto bad = [&](const std::string& line, const std::string& part) {
    write_text(path("bad.jsonl"), "{\"text\": \"fine\"}\n" + line + "\n");
    expect_error(ErrorKind::kData, "bad.jsonl:2: " + part, [&] { tokenize(options({"bad.jsonl"})); });
    EXPECT_FALSE(fs::exists(path("out/train.bin.tmp")));
  };
  bad("{\"text\": ", "not JSON");
  bad("{\"text\": 5}", "a JSON line must be an object with a string field \"text\"");
  bad("[1]", "a JSON line must be an object");
  bad("{\"body\": \"x\"}", "a JSON line must be an object");
  bad("{\"text\": \"\xFF\"}", "not JSON");
}

TEST_F(TokenizeTest, HoldsOutWholeDocuments) {
  std::string text;
  for (int i = 0; i < 997; ++i)
    text += "document " + std::to_string(i) + std::string(static_cast<size_t>(i % 13), 'x') + "\n";
  write_text(path("a.txt"), text);
  TokenizeOptions opts = options({"a.txt"});
  opts.document = DocumentMode::kLine;
  opts.val_fraction = 0.05;
  const auto split = [&](uint64_t seed) {
    opts.seed = seed;
    const Manifest manifest = tokenize(opts);
    EXPECT_EQ(manifest.files.at(0).documents, 947);
    EXPECT_EQ(manifest.files.at(1).documents, 50);  // ceil(0.05 * 997)
    return std::pair{text_of("out/train.bin"), text_of("out/val.bin")};
  };
  const auto [train, val] = split(2357);
  // Merged by document number, both are the whole again, each in order.
  size_t t = 0, v = 0;
  for (int i = 0; i < 997; ++i) {
    const std::string document = "document " + std::to_string(i) + std::string(static_cast<size_t>(i % 13), 'x') + "|";
    if (train.compare(t, document.size(), document) == 0) {
      t += document.size();
    } else {
      ASSERT_EQ(val.compare(v, document.size(), document), 0) << "document " << i << " is in neither file";
      v += document.size();
    }
  }
  EXPECT_EQ(t, train.size());
  EXPECT_EQ(v, val.size());
  EXPECT_EQ(split(2357).second, val);
  EXPECT_NE(split(1).second, val);
  EXPECT_LT(val.size(), text.size() / 10);
}

TEST_F(TokenizeTest, HoldsOutTheTailOfOneDocument) {
  std::string text;
  for (int i = 0; i < 999; ++i) text += static_cast<char>('a' + i % 26);
  write_text(path("a.txt"), text);
  TokenizeOptions opts = options({"a.txt"});
  opts.val_fraction = 0.1;
  const Manifest manifest = tokenize(opts);
  EXPECT_EQ(text_of("out/train.bin"), text.substr(0, 900));
  EXPECT_EQ(text_of("out/val.bin"), text.substr(900) + "|");
  EXPECT_EQ(decoded("out/train.bin") + decoded("out/val.bin"), text);
  EXPECT_EQ(manifest.files.at(0).text_bytes, 900);
  EXPECT_EQ(manifest.files.at(1).text_bytes, 99);
  EXPECT_EQ(manifest.files.at(1).largest_id, 256);
}

TEST_F(TokenizeTest, HeldOutFilesAndTheManifest) {
  write_text(path("a.txt"), "train text");
  write_text(path("v.txt"), "val");
  TokenizeOptions opts = options({"a.txt"});
  opts.val = {path("v.txt").string()};
  opts.val_fraction = 0.5;  // of no effect
  int64_t last = -1, total = 0;
  opts.progress = [&](int64_t done, int64_t all) {
    EXPECT_GE(done, last);
    last = done;
    total = all;
  };
  const Manifest manifest = tokenize(opts);
  EXPECT_EQ(last, 13);
  EXPECT_EQ(total, 13);
  EXPECT_EQ(text_of("out/train.bin"), "train text|");
  EXPECT_EQ(text_of("out/val.bin"), "val|");
  const std::string text = read_file(path("out/manifest.json"));
  EXPECT_EQ(text, format_manifest(manifest));
  EXPECT_EQ(text.find(folder_.path().string()), std::string::npos) << "paths of this machine in the manifest";
  const std::string content = read_file(path("out/val.bin"));
  EXPECT_EQ(manifest.files.at(1).xxh3_128, hash_bytes(content.data(), content.size()));
  EXPECT_EQ(manifest.files.at(1).tokens, 4);
  EXPECT_EQ(manifest.files.at(1).text_bytes, 3);
  // A run without held-out text takes the old val.bin away: it would belong to other training text.
  tokenize(options({"v.txt"}));
  EXPECT_FALSE(fs::exists(path("out/val.bin")));
}

TEST_F(TokenizeTest, AFailureLeavesTheFolderAsItWas) {
  write_text(path("a.txt"), "good");
  tokenize(options({"a.txt"}));
  const auto unchanged = [&] {
    EXPECT_EQ(text_of("out/train.bin"), "good|");
    EXPECT_EQ(std::distance(fs::directory_iterator(path("out")), {}), 2) << "train.bin and manifest.json";
  };
  expect_error(ErrorKind::kData, "none.txt: cannot be read", [&] { tokenize(options({"a.txt", "none.txt"})); });
  write_text(path("bad.jsonl"), "{");
  expect_error(ErrorKind::kData, "not JSON", [&] { tokenize(options({"bad.jsonl"})); });
  unchanged();
  fs::create_directory(path("folder"));
  expect_error(ErrorKind::kData, "folder", [&] { tokenize(options({"folder"})); });
  write_text(path("empty.txt"), "");
  expect_error(ErrorKind::kData, "the input is empty", [&] { tokenize(options({"empty.txt"})); });
  unchanged();
  write_text(path("big.txt"), mixed_text(3000000, 9));
  install_interrupt_handlers();
  TokenizeOptions opts = options({"big.txt"});
  opts.val_fraction = 0.5;
  opts.progress = [](int64_t done, int64_t) {
    if (done > 1000000) std::raise(SIGTERM);
  };
  expect_error(ErrorKind::kPreempted, "interrupted", [&] { tokenize(opts); });
  clear_interrupt();
  unchanged();
  opts.out = path("new").string();
  expect_error(ErrorKind::kPreempted, "interrupted", [&] { tokenize(opts); });
  clear_interrupt();
  EXPECT_FALSE(fs::exists(path("new")));
}

TEST_F(TokenizeTest, AFullDiskIsAMessageAndLeavesNothing) {
  write_text(path("big.txt"), mixed_text(3000000, 9));
  rlimit old = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {1000000, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error(ErrorKind::kRuntime, "write failed", [&] { tokenize(options({"big.txt"})); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_FALSE(fs::exists(path("out")));
}

TEST_F(TokenizeTest, BadOptions) {
  write_text(path("a.txt"), "text");
  expect_error(ErrorKind::kUsage, "unknown document mode \"page\"; there are file, line and eot",
               [] { parse_document_mode("page"); });
  expect_error(ErrorKind::kUsage, "no input files", [&] { tokenize(options({})); });
  TokenizeOptions opts = options({"a.txt"});
  opts.val_fraction = 1;
  expect_error(ErrorKind::kUsage, "val_fraction 1 must be", [&] { tokenize(opts); });
  opts = options({"a.txt"});
  opts.tokenizer = "gpt3";
  expect_error(ErrorKind::kUsage, "unknown tokenizer", [&] { tokenize(opts); });
}

TEST_F(TokenizeTest, InfoAndVerify) {
  write_text(path("a.txt"), mixed_text(5000, 4));
  TokenizeOptions opts = options({"a.txt"});
  opts.val_fraction = 0.1;
  tokenize(opts);
  InspectOptions inspect;
  inspect.files = {path("out").string()};
  const std::vector<FileReport> info = inspect_files(inspect);
  ASSERT_EQ(info.size(), 2u);
  EXPECT_EQ(info[0].tokenizer, "bytes");
  EXPECT_EQ(info[0].format, "raw uint16");
  EXPECT_EQ(info[0].tokens * 2, info[0].file_bytes);
  inspect.verify = true;
  for (const FileReport& report : inspect_files(inspect)) EXPECT_EQ(report.error, "");
  // One changed token of the right size: only reading everything finds it.
  std::string content = read_file(path("out/train.bin"));
  content[100] = static_cast<char>(content[100] ^ 1);
  write_text(path("out/train.bin"), content);
  const std::vector<FileReport> found = inspect_files(inspect);
  EXPECT_NE(found[0].error.find("content differs from the hash in manifest.json"), std::string::npos);
  EXPECT_EQ(found[1].error, "");
  EXPECT_NE(format_reports(found, true).find("1 invalid"), std::string::npos);
  EXPECT_NE(reports_json(found).find("\"valid\": false"), std::string::npos);
  // A token of another vocabulary, in a file without a manifest.
  test::write_raw(path("other.bin"), {1, 300});
  inspect.files = {path("other.bin").string(), path("missing.bin").string()};
  EXPECT_EQ(inspect_files(inspect)[0].error, "");
  EXPECT_NE(inspect_files(inspect)[1].error.find("cannot be opened"), std::string::npos);
  inspect.tokenizer = "bytes";
  EXPECT_NE(inspect_files(inspect)[0].error.find("token id 300 is not below the vocabulary size 257"),
            std::string::npos);
}

TEST_F(TokenizeTest, ShippedShakespeareIsSoundAndComplete) {
  const fs::path data = test::source_dir() / "data";
  InspectOptions inspect;
  inspect.files = {(data / "shakespeare").string()};
  inspect.verify = true;
  const std::vector<FileReport> reports = inspect_files(inspect);
  ASSERT_EQ(reports.size(), 2u);
  for (const FileReport& report : reports) EXPECT_EQ(report.error, "");
  std::string text;
  for (const char* name : {"train.bin", "val.bin"}) {
    decode_file(data / "shakespeare" / name, "", [&](std::string_view piece) { text += piece; });
  }
  EXPECT_EQ(text, read_file(data / "tinyshakespeare.txt"));
}

}  // namespace
}  // namespace power::data
