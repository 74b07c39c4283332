#include "checkpoint/manifest.h"

#include <gtest/gtest.h>

#include "checkpoint/strict_json.h"
#include "core/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace power::checkpoint {
namespace {

Manifest example() {
  Manifest manifest;
  manifest.step = 1200;
  manifest.summary = {{"val_loss", 3.4127000000000001}, {"tokens", 39321600}};
  manifest.files["model.safetensors"] = {128, hash_bytes("a", 1)};
  manifest.files["state.json"] = {2, hash_bytes("{}", 2)};
  return manifest;
}

// The example's text with its JSON changed and its own hash made right again: what an attacker would write.
template <class Change>
std::string forged(Change&& change) {
  nlohmann::json content = nlohmann::json::parse(manifest_text(example()));
  content.erase("manifest_xxh3_128");
  change(content);
  const std::string bare = content.dump();
  content["manifest_xxh3_128"] = hash_bytes(bare.data(), bare.size());
  return content.dump();
}

TEST(Manifest, IsReadBack) {
  const Manifest manifest = example();
  const Manifest read = parse_manifest(manifest_text(manifest), "manifest.json");
  EXPECT_EQ(read.step, 1200);
  EXPECT_EQ(read.summary, manifest.summary);
  ASSERT_EQ(read.files.size(), 2u);
  EXPECT_EQ(read.files.at("model.safetensors").bytes, 128);
  EXPECT_EQ(read.files.at("state.json").hash, hash_bytes("{}", 2));
  EXPECT_EQ(read.total_bytes(), 130);
}

TEST(Manifest, EveryCutAndEveryChangedDigitIsSeen) {
  const std::string text = manifest_text(example());
  for (size_t length = 0; length + 1 < text.size(); ++length) {  // the last byte is a line end
    SCOPED_TRACE(length);
    test::expect_error(ErrorKind::kData, "m: ", [&] { parse_manifest(std::string_view(text).substr(0, length), "m"); });
  }
  for (size_t i = 0; i < text.size(); ++i) {
    if (std::isalnum(static_cast<unsigned char>(text[i])) == 0) continue;
    SCOPED_TRACE(i);
    std::string changed = text;
    changed[i] = changed[i] == '7' ? '8' : '7';
    test::expect_error(ErrorKind::kData, "m: ", [&] { parse_manifest(changed, "m"); });
  }
}

TEST(Manifest, RefusesHostileContent) {
  using json = nlohmann::json;
  const auto with_file = [](const std::string& name) {
    return forged([&](json& m) { m["files"][name] = m["files"]["state.json"]; });
  };
  const auto with = [](const char* key, const json& value) { return forged([&](json& m) { m[key] = value; }); };
  struct Case {
    std::string name, text, message;
  };
  std::vector<Case> cases = {
      {"not JSON", "step: 3", "not valid JSON"},
      {"a list", "[]", "not a JSON object"},
      {"duplicate key", R"({"step": 1, "step": 2})", "key 'step' is given twice"},
      {"deep", std::string(100, '['), "nested deeper"},
      {"too large", std::string((1 << 20) + 1, ' '), "bytes of JSON"},
      {"other format", with("format", "x"), "is not powertrain-checkpoint"},
      {"other version", with("version", 2), "format version 2"},
      {"negative step", with("step", -1), "'step' is missing or of the wrong type"},
      {"fractional step", with("step", 1.5), "'step' is missing"},
      {"huge step", with("step", UINT64_MAX), "too large"},
      {"no files", forged([](json& m) { m.erase("files"); }), "'files' is missing"},
      {"files a list", with("files", json::array()), "'files' is missing"},
      {"entry a number", forged([](json& m) { m["files"]["state.json"] = 3; }), "not an object"},
      {"negative size", forged([](json& m) { m["files"]["state.json"]["bytes"] = -1; }), "'bytes' is missing"},
      {"bad hash", forged([](json& m) { m["files"]["state.json"]["xxh3_128"] = "../x"; }), "32 hexadecimal"},
      {"sizes overflow", forged([](json& m) {
         m["files"]["state.json"]["bytes"] = INT64_MAX;
         m["files"]["model.safetensors"]["bytes"] = INT64_MAX;
       }),
       "too large"},
  };
  for (const char* name : {"", ".", "..", ".hidden", "a/b", "/etc/passwd", "../state.json", "a\\b", "a\nb",
                           "caf\xc3\xa9", "a b", "manifest.json"}) {
    cases.push_back({std::string("file name ") + name, with_file(name), "is not a plain file name"});
  }
  cases.push_back({"long file name", with_file(std::string(101, 'a')), "is not a plain file name"});
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    test::expect_error(ErrorKind::kData, c.message, [&] { parse_manifest(c.text, "m"); });
  }
  EXPECT_EQ(parse_manifest(forged([](json&) {}), "m").step, 1200);  // the forgery itself is sound
}

TEST(Manifest, FilesMustBeThereWithTheirSizeAndNotBeLinks) {
  const test::TempFolder temp;
  Manifest manifest;
  manifest.files["state.json"] = {2, hash_bytes("{}", 2)};
  write_file_atomic(temp / kManifestName, manifest_text(manifest));
  const auto path = temp / "state.json";
  test::expect_error(ErrorKind::kData, "state.json: missing", [&] { read_manifest(temp.path()); });
  write_file_atomic(path, "{");
  test::expect_error(ErrorKind::kData, "truncated", [&] { read_manifest(temp.path()); });
  write_file_atomic(path, "{}");
  EXPECT_EQ(read_manifest(temp.path()).files.size(), 1u);
  std::filesystem::rename(path, temp / "elsewhere");
  std::filesystem::create_symlink(temp / "elsewhere", path);
  test::expect_error(ErrorKind::kData, "not a regular file", [&] { read_manifest(temp.path()); });
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  test::expect_error(ErrorKind::kData, "not a regular file", [&] { read_manifest(temp.path()); });
  test::expect_error(ErrorKind::kData, "no such checkpoint", [&] { read_manifest(temp / "absent"); });
}

TEST(StrictJson, AcceptsEqualKeysInDifferentObjects) {
  const auto json = parse_strict_json(R"({"a": {"x": 1}, "b": {"x": 2}, "c": [{"x": 3}, {"x": 4}]})", "text");
  EXPECT_EQ(json["c"][1]["x"], 4);
  test::expect_error(ErrorKind::kData, "given twice",
                     [] { parse_strict_json(R"({"a": [{"x": 1, "y": {}, "x": 2}]})", "text"); });
}

TEST(StrictJson, PrintableHidesControlCharacters) {
  EXPECT_EQ(printable("a\x1b[31m\n\x7f"), "a\\x1b[31m\\x0a\\x7f");
  EXPECT_EQ(printable(std::string(300, 'x')), std::string(200, 'x') + "...");
}

}  // namespace
}  // namespace power::checkpoint
