#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "checkpoint/content_check.h"
#include "core/file.h"
#include "tests/support/expect_error.h"

namespace power::checkpoint {
namespace {

std::string container(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + std::string(data_bytes, '\0');
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, size_t begin,
                  size_t end) {
  return str('"', name, R"(":{"dtype":")", dtype, R"(","shape":)", shape, R"(,"data_offsets":[)", begin, ',', end,
             "]}");
}

TEST(Safetensors, LayoutIsReadBackAlignedAndInOrder) {
  std::vector<TensorEntry> tensors = {{"b", "U8", {3}, 0, 0},
                                      {"c", "F64", {2, 1}, 0, 0},
                                      {"a", "BF16", {}, 0, 0},
                                      {"e", "F32", {0, 7}, 0, 0},
                                      {"d\xc3\xa9", "I64", {1}, 0, 0}};
  const std::string header = layout_safetensors(tensors, {{"format", "pt"}});
  EXPECT_EQ(header.size() % 64, 0u);
  const std::string file = header + std::string(tensors.back().end, '\0');
  const SafetensorsHeader read = parse_safetensors(file, "file");
  EXPECT_EQ(read.data_begin, header.size());
  EXPECT_EQ(read.metadata.at("format"), "pt");
  ASSERT_EQ(read.tensors.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(read.tensors[i].name, tensors[i].name);
    EXPECT_EQ(read.tensors[i].dtype, tensors[i].dtype);
    EXPECT_EQ(read.tensors[i].shape, tensors[i].shape);
    EXPECT_EQ(read.tensors[i].begin, tensors[i].begin);
    EXPECT_EQ(read.tensors[i].begin % dtype_bytes(read.tensors[i].dtype).value(), 0u);
  }
}

TEST(Safetensors, AcceptsWhatTheFormatAllows) {
  EXPECT_TRUE(parse_safetensors(container("{}", 0), "file").tensors.empty());
  EXPECT_TRUE(parse_safetensors(container("{}     ", 0), "file").tensors.empty());
  // Entries in any order, empty tensors in between.
  const std::string header = "{" + entry("z", "F32", "[2]", 4, 12) + "," + entry("empty", "F32", "[0]", 4, 4) + "," +
                             entry("a", "I8", "[2,2]", 0, 4) + R"(,"__metadata__":{"k":"v"}})";
  const SafetensorsHeader read = parse_safetensors(container(header, 12), "file");
  ASSERT_EQ(read.tensors.size(), 3u);
  EXPECT_EQ(read.tensors[0].name, "a");
  EXPECT_EQ(read.tensors[1].name, "empty");
  EXPECT_EQ(read.tensors[2].name, "z");
}

TEST(Safetensors, RefusesHostileAndDamagedFiles) {
  const std::string good = entry("a", "F32", "[2]", 0, 8);
  struct Case {
    const char* name;
    std::string file;
    const char* message;
  };
  const auto length_only = [](uint64_t length) {
    std::string file(8, '\0');
    std::memcpy(file.data(), &length, 8);
    return file + "{}";
  };
  std::string many = "[";
  for (int i = 0; i < 17; ++i) many += i == 0 ? "1" : ",1";
  const std::vector<Case> cases = {
      {"empty", "", "too short"},
      {"seven bytes", "1234567", "too short"},
      {"header beyond the file", length_only(100), "truncated"},
      {"header of 100 MB and one", length_only(100'000'001), "at most 100000000"},
      {"header of 2^64-1", length_only(std::numeric_limits<uint64_t>::max()), "at most 100000000"},
      {"not an object", container("[]", 0), "does not begin"},
      {"no header", container("", 0), "does not begin"},
      {"leading space", container(" {}", 0), "does not begin"},
      {"cut JSON", container("{" + good, 8), "not valid JSON"},
      {"text after the header", container("{} {}", 0), "not valid JSON"},
      {"invalid UTF-8", container("{\"\xff\":1}", 0), "not valid JSON"},
      {"duplicate name", container("{" + good + "," + good + "}", 8), "comes twice"},
      {"duplicate name, escaped", container("{" + good + "," + entry("\\u0061", "F32", "[2]", 8, 16) + "}", 16),
       "comes twice"},
      {"duplicate field", container(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8),
       "comes twice"},
      {"duplicate metadata", container(R"({"__metadata__":{"a":"1","a":"2"}})", 0), "comes twice"},
      {"metadata not a string", container(R"({"__metadata__":{"a":1}})", 0), "a number where none"},
      {"metadata nested", container(R"({"__metadata__":{"a":{}}})", 0), "an object where"},
      {"unknown field", container(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})", 8),
       "unknown field"},
      {"missing field", container(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", 8), "is missing"},
      {"entry is a number", container(R"({"a":1})", 0), "a number where none"},
      {"entry is a list", container(R"({"a":[1]})", 0), "a list where none"},
      {"entry is null", container(R"({"a":null})", 0), "null where"},
      {"entry is true", container(R"({"a":true})", 0), "true or false"},
      {"shape is a number", container(R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", 8), "a number where"},
      {"shape is nested", container(R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})", 8), "a list where"},
      {"shape holds an object", container(R"({"a":{"dtype":"F32","shape":[{}],"data_offsets":[0,8]}})", 8),
       "an object"},
      {"dtype is a list", container(R"({"a":{"dtype":["F32"],"shape":[2],"data_offsets":[0,8]}})", 8), "a list where"},
      {"dtype is a number", container(R"({"a":{"dtype":32,"shape":[2],"data_offsets":[0,8]}})", 8), "a number where"},
      {"unknown dtype", container("{" + entry("a", "F33", "[2]", 0, 8) + "}", 8), "unknown dtype 'F33'"},
      {"negative extent", container("{" + entry("a", "F32", "[-2]", 0, 8) + "}", 8), "negative number"},
      {"fractional extent", container("{" + entry("a", "F32", "[2.0]", 0, 8) + "}", 8), "the number 2.0"},
      {"extent beyond 64 bits", container("{" + entry("a", "F32", "[99999999999999999999]", 0, 8) + "}", 8),
       "the number"},
      {"extent beyond 63 bits", container("{" + entry("a", "F32", "[18446744073709551615]", 0, 8) + "}", 8),
       "too large"},
      // 2^62 * 4 elements of 4 bytes wrap to 0 in 64 bits.
      {"product wraps", container("{" + entry("a", "F32", "[4611686018427387904,4]", 0, 0) + "}", 0), "too large"},
      {"product wraps beside a 0", container("{" + entry("a", "F32", "[0,4611686018427387904,4]", 0, 0) + "}", 0),
       "too large"},
      {"too many extents", container("{" + entry("a", "U8", many + "]", 0, 1) + "}", 1), "more than 16"},
      {"span too short", container("{" + entry("a", "F32", "[2]", 0, 7) + "}", 7), "takes 8 bytes"},
      {"span too long", container("{" + entry("a", "F32", "[2]", 0, 12) + "}", 12), "takes 8 bytes"},
      {"offsets reversed", container("{" + entry("a", "F32", "[2]", 8, 0) + "}", 8), "not [begin, end]"},
      {"three offsets", container(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})", 8),
       "not [begin, end]"},
      {"hole before", container("{" + entry("a", "F32", "[2]", 4, 12) + "}", 12), "belong to no tensor"},
      {"hole between", container("{" + good + "," + entry("b", "F32", "[2]", 12, 20) + "}", 20), "belong to no tensor"},
      {"overlap", container("{" + good + "," + entry("b", "F32", "[2]", 4, 12) + "}", 12), "overlaps"},
      {"same span", container("{" + good + "," + entry("b", "F32", "[2]", 0, 8) + "}", 8), "overlaps"},
      {"data truncated", container("{" + good + "}", 7), "truncated"},
      {"data appended", container("{" + good + "}", 9), "appended"},
      {"control character", container("{" + entry("a\\u001b[31m", "F32", "[2]", 0, 8) + "}", 8), "control character"},
      {"deep nesting", container("{\"a\":" + std::string(100000, '['), 0), "a list where none"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const std::string message =
        test::expect_error(ErrorKind::kData, c.message, [&] { parse_safetensors(c.file, "model.safetensors"); });
    EXPECT_TRUE(message.starts_with("model.safetensors: ")) << message;
    for (const char byte : message) EXPECT_GE(static_cast<unsigned char>(byte), 0x20) << "control character printed";
  }
}

TEST(Safetensors, EveryCutOfAFileIsRefused) {
  std::vector<TensorEntry> tensors = {{"w", "F32", {3, 5}, 0, 0}, {"n", "I64", {}, 0, 0}};
  const std::string header = layout_safetensors(tensors, {});
  const std::string file = header + std::string(tensors.back().end, '\0');
  parse_safetensors(file, "file");
  for (size_t length = 0; length < file.size(); ++length) {
    SCOPED_TRACE(length);
    test::expect_error(ErrorKind::kData, "",
                       [&] { parse_safetensors(std::string_view(file).substr(0, length), "file"); });
  }
}

TEST(ContentCheck, StreamHashEqualsTheHashOfTheWhole) {
  std::string bytes(100'003, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 131 + i / 256);
  StreamHash hash;
  for (size_t begin = 0, piece = 0; begin < bytes.size(); begin += piece) {
    piece = std::min(bytes.size() - begin, 3 * piece + 1);
    hash.update(bytes.data() + begin, piece);
  }
  EXPECT_EQ(hash.hex(), hash_bytes(bytes.data(), bytes.size()));
}

template <class T>
int64_t find(const char* dtype, const std::vector<T>& values) {
  return first_non_finite(dtype, values.data(), values.size() * sizeof(T));
}

TEST(ContentCheck, FindsTheFirstNonFiniteElement) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const size_t size : {1, 1023, 1024, 1025, 5000}) {
    for (const size_t at : {size_t{0}, size / 2, size - 1}) {
      SCOPED_TRACE(str(size, " elements, bad at ", at));
      std::vector<float> values(size, -std::numeric_limits<float>::max());
      EXPECT_EQ(find("F32", values), -1);
      values[at] = -kInf;
      EXPECT_EQ(find("F32", values), at);
      values[size - 1] = std::nanf("");
      EXPECT_EQ(find("F32", values), at);
      std::vector<double> wide(size, std::numeric_limits<double>::max());
      EXPECT_EQ(find("F64", wide), -1);
      wide[at] = std::nan("");
      EXPECT_EQ(find("F64", wide), at);
      std::vector<uint16_t> half(size, 0x7bff);  // largest float16
      EXPECT_EQ(find("F16", half), -1);
      half[at] = 0x7c00;
      EXPECT_EQ(find("F16", half), at);
      EXPECT_EQ(find("BF16", half), -1);
      half[at] = 0xff80;  // -inf in bfloat16
      EXPECT_EQ(find("BF16", half), at);
      EXPECT_EQ(find("I16", half), -1);
    }
  }
}

TEST(ContentCheck, RefusesBadValuesInAFile) {
  std::vector<TensorEntry> tensors = {{"w", "F32", {4}, 0, 0}, {"mask", "BOOL", {2}, 0, 0}};
  std::string file = layout_safetensors(tensors, {});
  const size_t data = file.size();
  file += std::string(tensors.back().end, '\0');
  check_safetensors_content(file, "file");
  std::string damaged = file;
  damaged[data + 17] = 2;
  test::expect_error(ErrorKind::kData, "'mask': a BOOL", [&] { check_safetensors_content(damaged, "file"); });
  const float nan = std::nanf("");
  std::memcpy(file.data() + data + 8, &nan, 4);
  test::expect_error(ErrorKind::kData, "'w': element 2 is not finite",
                     [&] { check_safetensors_content(file, "file"); });
}

}  // namespace
}  // namespace power::checkpoint
