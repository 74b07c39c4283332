#include "data/dataset.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "data/manifest.h"
#include "tests/data/token_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace power::data {
namespace {

namespace fs = std::filesystem;
using test::counting;
using test::expect_error;
using test::write_llmc;
using test::write_raw;
using test::write_text;

constexpr int64_t kVocab = 50257;

class DatasetTest : public ::testing::Test {
 protected:
  DatasetTest() { ::setenv("XDG_CACHE_HOME", (folder_ / "cache").c_str(), 1); }
  ~DatasetTest() override { ::unsetenv("XDG_CACHE_HOME"); }

  fs::path path(const std::string& name) const { return folder_ / name; }
  Dataset open(const std::string& name, int64_t vocab = kVocab, Verify verify = Verify::kCached) const {
    return Dataset({path(name).string()}, vocab, verify);
  }
  std::string error(const std::string& name, const std::string& part) const {
    return expect_error(ErrorKind::kData, part, [&] { open(name); });
  }
  static std::vector<int64_t> tokens(const Dataset& data, int64_t begin, int64_t count) {
    std::vector<int64_t> out(static_cast<size_t>(count), -1);
    data.copy(begin, count, out.data());
    return out;
  }

  test::TempFolder folder_;
};

TEST_F(DatasetTest, ReadsEveryFormatAcrossShards) {
  write_raw(path("s_a.bin"), counting(5));
  write_llmc<uint16_t>(path("s_b.bin"), 20240520, 1, 4, counting(4, 5));
  write_llmc<uint32_t>(path("s_c.bin"), 20240801, 7, 3, {9, 10, 50256});
  const Dataset data = open("s_*.bin");
  EXPECT_EQ(data.size(), 12);
  ASSERT_EQ(data.paths().size(), 3u);
  EXPECT_EQ(data.paths()[1], path("s_b.bin"));
  EXPECT_EQ(tokens(data, 0, 12), (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 50256}));
  EXPECT_EQ(tokens(data, 4, 6), (std::vector<int64_t>{4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(tokens(data, 9, 1), (std::vector<int64_t>{9}));
  EXPECT_TRUE(tokens(data, 12, 0).empty());
  expect_error(ErrorKind::kData, "outside the data set of 12 tokens", [&] { tokens(data, 10, 3); });
  expect_error(ErrorKind::kData, "outside the data set", [&] { tokens(data, -1, 3); });
}

TEST_F(DatasetTest, ShardsKeepTheOrderOfThePatterns) {
  write_raw(path("a.bin"), {1});
  write_raw(path("b.bin"), {2});
  const Dataset data({path("b.bin").string(), path("a*.bin").string()}, kVocab);
  EXPECT_EQ(tokens(data, 0, 2), (std::vector<int64_t>{2, 1}));
}

TEST_F(DatasetTest, OffsetsBeyondFourGigabytes) {
  const int64_t count = (int64_t{5} << 30) / 2;
  const int fd = ::open(path("big.bin").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_GE(fd, 0);
  if (::ftruncate(fd, count * 2) != 0) GTEST_SKIP() << "no sparse file of 5 GiB here";
  const uint16_t end[2] = {123, 456};
  ASSERT_EQ(::pwrite(fd, end, 4, count * 2 - 4), 4);
  ::close(fd);
  write_raw(path("big_b.bin"), {7, 8});
  const Dataset data({path("big.bin").string(), path("big_b.bin").string()}, kVocab, Verify::kOff);
  EXPECT_EQ(data.size(), count + 2);
  EXPECT_EQ(tokens(data, count - 3, 5), (std::vector<int64_t>{0, 123, 456, 7, 8}));
}

TEST_F(DatasetTest, BadFilesAreNamedWithWhatWasFound) {
  error("none.bin", "none.bin: cannot be opened: No such file or directory");
  error("none*.bin", "none*.bin: no file matches");
  fs::create_directory(path("folder"));
  error("folder", "folder: is a folder; name the .bin files in it");
  write_text(path("empty.bin"), "");
  error("empty.bin", "empty.bin: empty file");
  write_text(path("odd.bin"), "abc");
  error("odd.bin", "odd.bin: odd size of 3 bytes");
  write_llmc<uint16_t>(path("short.bin"), 20240520, 1, 10, counting(9));
  error("short.bin", "short.bin: header says 10 tokens, file holds 9;");
  write_llmc<uint32_t>(path("long.bin"), 20240801, 7, 2, {1, 2, 3});
  error("long.bin", "long.bin: header says 2 tokens, file holds 3;");
  write_llmc<uint16_t>(path("negative.bin"), 20240520, 1, -1, {});
  error("negative.bin", "header says -1 tokens");
  write_llmc<uint16_t>(path("version.bin"), 20240520, 2, 1, {1});
  error("version.bin", "header says version 2, this program reads version 1");
  write_llmc<uint32_t>(path("version32.bin"), 20240801, 1, 1, {1});
  error("version32.bin", "header says version 1, this program reads version 7");
  write_llmc<uint16_t>(path("cut.bin"), 20240520, 1, 1, {1});
  fs::resize_file(path("cut.bin"), 100);
  error("cut.bin", "ends inside its header (100 of 1024 bytes)");
  for (const size_t bytes : {1000, 1001}) {
    std::string text = "This is a text file, no tokens.\n";
    while (text.size() < bytes) text += text;
    write_text(path("text.bin"), text.substr(0, bytes));
    error("text.bin", "text.bin: holds text, not tokens");
  }
}

TEST_F(DatasetTest, IdsBeyondTheVocabulary) {
  write_raw(path("a.bin"), {1, 50256, 2});
  EXPECT_EQ(open("a.bin").size(), 3);
  expect_error(ErrorKind::kData, "a.bin: token id 50256 is not below the vocabulary size 257",
               [&] { open("a.bin", 257); });
  write_llmc<uint32_t>(path("b.bin"), 20240801, 7, 2, {1, 4000000000U});
  error("b.bin", "token id 4000000000 is not below");
  // Without the scan, the batch that reads it tells.
  const Dataset unchecked = open("a.bin", 257, Verify::kOff);
  EXPECT_EQ(tokens(unchecked, 0, 1), (std::vector<int64_t>{1}));
  expect_error(ErrorKind::kData, "token id 50256 at token 1 is not below", [&] { tokens(unchecked, 0, 3); });
}

// Changes the file's content but neither its size nor its time.
void replace_quietly(const fs::path& path, const std::vector<uint16_t>& tokens) {
  struct stat before = {};
  ASSERT_EQ(::stat(path.c_str(), &before), 0);
  write_raw(path, tokens);
  const timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

TEST_F(DatasetTest, TheScanIsRememberedBySizeAndTime) {
  write_raw(path("a.bin"), {1, 2, 3});
  open("a.bin");
  EXPECT_TRUE(fs::exists(path("cache") / "powertrain"));
  replace_quietly(path("a.bin"), {1, 2, 60000});
  EXPECT_EQ(open("a.bin").size(), 3);  // taken from the cache
  expect_error(ErrorKind::kData, "token id 60000", [&] { open("a.bin", kVocab, Verify::kFull); });
  error("a.bin", "token id 60000");  // the full scan was remembered, too
  write_raw(path("a.bin"), {1, 2, 3, 4});
  EXPECT_EQ(open("a.bin").size(), 4);
  for (const auto& entry : fs::directory_iterator(folder_.path())) {
    EXPECT_TRUE(entry.path().filename() == "a.bin" || entry.path().filename() == "cache") << "nothing beside the data";
  }
}

TEST_F(DatasetTest, WithoutAPlaceForTheCacheItIsJustScanned) {
  write_raw(path("a.bin"), {1, 2, 60000});
  write_text(path("cache"), "a file where the folder should be");
  error("a.bin", "token id 60000");
  ::unsetenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::string saved = home != nullptr ? home : "";
  ::unsetenv("HOME");
  error("a.bin", "token id 60000");
  ::setenv("HOME", saved.c_str(), 1);
}

TEST_F(DatasetTest, DamagedCacheEntriesAreScannedAgain) {
  write_raw(path("a.bin"), {1, 2, 60000});
  open("a.bin", 65536);
  int entries = 0;
  for (const auto& entry : fs::directory_iterator(path("cache") / "powertrain")) {
    std::ifstream file(entry.path());
    std::string size, time;
    file >> size >> time;
    write_text(entry.path(), size + " " + time + " -5\n");
    ++entries;
  }
  EXPECT_EQ(entries, 1);
  error("a.bin", "token id 60000");
}

TEST_F(DatasetTest, AShardThatShrinksInUseIsAMessage) {
  write_raw(path("a.bin"), counting(100000));
  const Dataset data = open("a.bin");
  fs::resize_file(path("a.bin"), 1000);
  EXPECT_EQ(tokens(data, 0, 2), (std::vector<int64_t>{0, 1}));
  expect_error(ErrorKind::kData, "it changed in use", [&] { tokens(data, 400, 200); });
}

TEST_F(DatasetTest, TheManifestBesideIsHeldTo) {
  write_raw(path("train.bin"), counting(10));
  Manifest manifest{"bytes", 257, "file", 0, 1, {"a.txt"}, {}};
  manifest.files.push_back({"train.bin", "train", "bytes", 257, 10, 1, 10, 9, "00"});
  write_text(path("manifest.json"), format_manifest(manifest));
  EXPECT_EQ(open("train.bin").tokenizer(), "bytes");
  write_raw(path("train.bin"), counting(8));
  error("train.bin", "holds 8 tokens, but the manifest.json beside it says 10");
  write_text(path("manifest.json"), "{\"format\": \"powertrain tokens\", \"version\": 2}");
  error("train.bin", "version 2, this program reads version 1");
  write_text(path("manifest.json"), "{\"made_by\": \"another program\"}");
  EXPECT_EQ(open("train.bin").tokenizer(), "");
  write_text(path("manifest.json"), "not JSON");
  EXPECT_EQ(open("train.bin").size(), 8);
}

TEST(Manifest, HostileTextIsAnError) {
  const auto parse = [](const std::string& text) { return [text] { parse_manifest(text, "m"); }; };
  Manifest good{"gpt2", 50257, "eot", 0.5, 3, {"a"}, {{"v.bin", "val", "gpt2", 50257, 1, 1, 1, 0, "ff"}}};
  const std::string text = format_manifest(good);
  EXPECT_EQ(format_manifest(parse_manifest(text, "m")), text);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    return changed;
  };
  expect_error(ErrorKind::kData, "not JSON", parse("{"));
  expect_error(ErrorKind::kData, "not a manifest", parse("[]"));
  expect_error(ErrorKind::kData, "must be plain", parse(with("v.bin", "../v.bin")));
  expect_error(ErrorKind::kData, "must be plain", parse(with("v.bin", "..")));
  expect_error(ErrorKind::kData, "\"tokens\" must be a whole number", parse(with("\"tokens\": 1", "\"tokens\": -1")));
  expect_error(ErrorKind::kData, "\"tokens\" must be a whole number",
               parse(with("\"tokens\": 1", "\"tokens\": 18446744073709551615")));
  expect_error(ErrorKind::kData, "\"split\" is missing", parse(with("\"split\"", "\"spilt\"")));
  expect_error(ErrorKind::kData, "\"inputs\" must be a list", parse(with("[\n    \"a\"\n  ]", "{}")));
}

}  // namespace
}  // namespace power::data
