// Build step: embed_gpt2 VOCAB_BPE ENCODER_JSON OUT writes the vocabulary as C++ arrays, after checking that the two
// published files agree.
#include <cstdio>
#include <exception>

#include "core/file.h"
#include "core/str.h"
#include "data/gpt2_vocabulary.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: embed_gpt2 VOCAB_BPE ENCODER_JSON OUT\n");
    return 2;
  }
  try {
    const auto vocabulary = power::data::parse_gpt2_merges(power::read_file(argv[1]));
    power::data::check_gpt2_encoder(vocabulary, power::read_file(argv[2]));
    std::string text = "// Made by embed_gpt2 from data/gpt2.\nconstexpr uint8_t kByteOfToken[256] = {";
    for (const int byte : vocabulary.byte_of_token) text += power::str(byte, ",");
    text += power::str("};\nconstexpr uint16_t kMerges[", vocabulary.merges.size(), "][2] = {\n");
    int column = 0;
    for (const auto& [left, right] : vocabulary.merges) {
      text += power::str("{", left, ",", right, "},", ++column % 16 == 0 ? "\n" : "");
    }
    power::write_file_atomic(argv[3], text + "};\n");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "embed_gpt2: %s\n", error.what());
    return 1;
  }
}
