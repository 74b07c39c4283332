#include "train/tensorboard.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/file.h"
#include "tests/support/temp_folder.h"

namespace power::train {
namespace {

TEST(TensorBoard, Crc32cGivesTheValuesOfRfc3720) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  std::string ascending;
  for (int i = 0; i < 32; ++i) ascending += static_cast<char>(i);
  EXPECT_EQ(crc32c(ascending), 0x46dd794eu);
}

template <class T>
T read(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

uint32_t unmasked(uint32_t masked) {
  const uint32_t rotated = masked - 0xa282ead8u;
  return (rotated >> 17) | (rotated << 15);
}

// Splits the file into its events' bytes, checking both checksums of every record. The wall time (first 9 bytes of each
// event) is cut off.
std::vector<std::string> events(const std::filesystem::path& path) {
  const std::string file = read_file(path);
  std::vector<std::string> result;
  for (size_t at = 0; at < file.size();) {
    EXPECT_LE(at + 16, file.size());
    const auto length = read<uint64_t>(file, at);
    EXPECT_EQ(unmasked(read<uint32_t>(file, at + 8)), crc32c(std::string_view(file).substr(at, 8)));
    const std::string event = file.substr(at + 12, length);
    EXPECT_EQ(unmasked(read<uint32_t>(file, at + 12 + length)), crc32c(event));
    EXPECT_EQ(event[0], '\x09');
    EXPECT_GT(read<double>(event, 1), 1.7e9);
    result.push_back(event.substr(9));
    at += 16 + length;
  }
  return result;
}

// The bytes PyPI tensorboard 2.21's own EventFileWriter gives for the same events.
TEST(TensorBoard, EventsHaveTheBytesOfTheOriginal) {
  using namespace std::string_literals;
  const test::TempFolder folder;
  {
    TensorBoardWriter writer(folder / "tb", 299);
    writer.add_scalar("train/loss", 300, 0.5);
  }
  const auto file = *std::filesystem::directory_iterator(folder / "tb");
  EXPECT_TRUE(file.path().filename().string().starts_with("events.out.tfevents."));
  const std::vector<std::string> all = events(file.path());
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0],
            "\x1a\x0d"
            "brain.Event:2");
  EXPECT_EQ(all[1],
            "\x10\xac\x02"
            "\x3a\x02\x08\x01");
  EXPECT_EQ(all[2],
            "\x10\xac\x02"
            "\x2a\x13\x0a\x11"
            "\x0a\x0a"
            "train/loss"
            "\x15\x00\x00\x00\x3f"s);
}

TEST(TensorBoard, EveryWriterHasItsOwnFile) {
  const test::TempFolder folder;
  const TensorBoardWriter first(folder.path());
  const TensorBoardWriter second(folder.path());
  EXPECT_NE(first.path(), second.path());
  EXPECT_LT(first.path(), second.path());
  EXPECT_EQ(events(first.path()).size(), 1u);  // no purge in a run that was not resumed
}

}  // namespace
}  // namespace power::train
