#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

// Token files of every format, for tests.
namespace power::test {

inline void write_bytes(const std::filesystem::path& path, const void* data, size_t bytes) {
  std::ofstream(path, std::ios::binary).write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  write_bytes(path, text.data(), text.size());
}

inline void write_raw(const std::filesystem::path& path, const std::vector<uint16_t>& tokens) {
  write_bytes(path, tokens.data(), tokens.size() * 2);
}

// A shard with llm.c's header; Token is uint16_t or uint32_t.
template <class Token>
void write_llmc(const std::filesystem::path& path, int32_t magic, int32_t version, int32_t count,
                const std::vector<Token>& tokens) {
  std::vector<int32_t> header(256);
  header[0] = magic;
  header[1] = version;
  header[2] = count;
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(header.data()), 1024);
  file.write(reinterpret_cast<const char*>(tokens.data()), static_cast<std::streamsize>(tokens.size() * sizeof(Token)));
}

inline std::vector<uint16_t> counting(size_t count, size_t from = 0) {
  std::vector<uint16_t> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = static_cast<uint16_t>((from + i) % 50257);
  return tokens;
}

}  // namespace power::test
