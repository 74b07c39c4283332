#include <chrono>
#include <iostream>

#include "cli/command.h"
#include "core/error.h"
#include "core/format.h"
#include "core/interrupt.h"
#include "core/log.h"
#include "core/progress.h"
#include "data/inspect.h"
#include "data/tokenize.h"

namespace power::cli {
namespace {

constexpr int kSound = 0;
constexpr int kInvalid = 3;
constexpr int64_t kFewTokens = 256;  // of validation data

int run_decode(const Arguments& arguments) {
  require(arguments.operands().empty() && !arguments.has("out"), ErrorKind::kUsage,
          "--decode prints a token file's text; it takes no inputs and no --out");
  data::decode_file(arguments.text("decode"), arguments.text("tokenizer"), [](std::string_view text) {
    require(!interrupted(), ErrorKind::kPreempted, "interrupted");
    std::cout << text;
  });
  return 0;
}

int run_tokenize(const Arguments& arguments) {
  install_interrupt_handlers();
  if (arguments.has("decode")) return run_decode(arguments);
  require(!arguments.operands().empty(), ErrorKind::kUsage, "name the text files to tokenize");
  require(arguments.has("out"), ErrorKind::kUsage, "--out DIR is missing: the folder for train.bin and val.bin");
  require(!arguments.has("val") || !arguments.has("val_fraction"), ErrorKind::kUsage,
          "give either --val or --val_fraction, not both");
  data::TokenizeOptions options;
  options.inputs = arguments.operands();
  options.out = arguments.text("out");
  options.tokenizer = arguments.text("tokenizer", options.tokenizer);
  options.val = arguments.texts("val");
  options.val_fraction = arguments.number("val_fraction", options.val_fraction, 0, 0.999);
  options.seed = static_cast<uint64_t>(arguments.integer("seed", static_cast<int64_t>(options.seed)));
  options.document = data::parse_document_mode(arguments.text("document", "file"));
  options.threads = static_cast<int>(arguments.integer("threads", 0, 1, 4096));
  const auto start = std::chrono::steady_clock::now();
  data::Manifest manifest;
  {
    ProgressBar bar("tokenize", 0, "B");
    options.progress = [&bar](int64_t done, int64_t total) {
      bar.set_total(total);
      bar.update(done);
    };
    manifest = data::tokenize(options);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  int64_t text_bytes = 0;
  for (const data::ManifestEntry& file : manifest.files) {
    log_info(options.out, "/", file.name, ": ", file.tokens, file.tokens == 1 ? " token, " : " tokens, ",
             file.documents, file.documents == 1 ? " document, " : " documents, ",
             format_bytes(static_cast<double>(file.text_bytes)), " of text");
    text_bytes += file.text_bytes;
    if (file.split == "val" && file.tokens < kFewTokens) {
      log_warning(options.out, "/", file.name,
                  " is too short to judge a model by; hold out more, as --val_fraction=0.1, ",
                  "or name held-out text with --val");
    }
  }
  log_info("tokenizer ", manifest.tokenizer, ", ", format_duration(seconds), ", ",
           format_bytes(static_cast<double>(text_bytes) / seconds), "/s");
  return 0;
}

int run_inspect(const Arguments& arguments, bool verify) {
  install_interrupt_handlers();
  data::InspectOptions options;
  options.files = arguments.operands();
  options.tokenizer = arguments.text("tokenizer");
  options.verify = verify;
  std::vector<data::FileReport> reports;
  {
    ProgressBar bar("verify", 0, "B");
    options.progress = [&bar](int64_t done, int64_t total) {
      bar.set_total(total);
      bar.update(done);
    };
    reports = data::inspect_files(options);
  }
  std::cout << (arguments.has("json") ? data::reports_json(reports) : data::format_reports(reports, verify));
  for (const data::FileReport& report : reports) {
    if (!report.error.empty()) return kInvalid;
  }
  return kSound;
}

Option tokenizer_option(const std::string& help) {
  return {.name = "tokenizer", .takes = Takes::kOne, .value = "NAME", .help = help, .choices = {"gpt2", "bytes"}};
}

}  // namespace

Command data_tokenize_command() {
  return {.name = "data tokenize",
          .summary = "make token files of text, or text of a token file",
          .operands = "INPUT...",
          .max_operands = 1 << 20,
          .options = {{.name = "out",
                       .takes = Takes::kOne,
                       .value = "DIR",
                       .help = "folder for train.bin, val.bin and manifest.json",
                       .is_path = true},
                      tokenizer_option("vocabulary: GPT-2's 50257 tokens, or one token a byte [gpt2]"),
                      {.name = "document",
                       .takes = Takes::kOne,
                       .value = "KIND",
                       .help = "what a document is; eot: the text between lines <|endoftext|> [file]",
                       .choices = {"file", "line", "eot"}},
                      {.name = "val",
                       .takes = Takes::kMany,
                       .value = "FILES",
                       .help = "held-out text",
                       .repeatable = true,
                       .is_path = true},
                      {.name = "val_fraction",
                       .takes = Takes::kOne,
                       .value = "F",
                       .help = "without --val: part of the documents to hold out; 0: none [0.0005]"},
                      {.name = "seed", .takes = Takes::kOne, .value = "N", .help = "which documents [2357]"},
                      {.name = "threads", .takes = Takes::kOne, .value = "N", .help = "cores to use [every one]"},
                      {.name = "decode",
                       .takes = Takes::kOne,
                       .value = "FILE.bin",
                       .help = "print the text of a token file instead",
                       .is_path = true}},
          .examples = {"powertrain data tokenize books.txt.xz --document eot --val held_out.txt.xz --out books",
                       "powertrain data tokenize notes.txt --tokenizer bytes --val_fraction 0.1 --out notes",
                       "powertrain data tokenize 'crawl/*.jsonl.zst' --out crawl",
                       "powertrain data tokenize --decode books/val.bin | head"},
          .run = run_tokenize};
}

Command data_verify_command() {
  return {.name = "data verify",
          .summary = "read token files whole: headers, sizes, every id, the manifest's hash",
          .operands = "FILE|DIR...",
          .min_operands = 1,
          .max_operands = 1 << 20,
          .options = {tokenizer_option("whose ids are allowed [the manifest's, else gpt2]"), json_option()},
          .examples = {"powertrain data verify data/shakespeare", "powertrain data verify 'shards/*.bin' --json"},
          .run = [](const Arguments& arguments) { return run_inspect(arguments, true); }};
}

Command data_info_command() {
  return {.name = "data info",
          .summary = "format, tokens and tokenizer of token files",
          .operands = "FILE|DIR...",
          .min_operands = 1,
          .max_operands = 1 << 20,
          .options = {json_option()},
          .examples = {"powertrain data info data/shakespeare", "powertrain data info train.bin --json"},
          .run = [](const Arguments& arguments) { return run_inspect(arguments, false); }};
}

}  // namespace power::cli
