// SPDX-License-Identifier: Apache-2.0
// Reads texts from stdin and prints their ids, one line each: what the Python judges drive.
// Usage: tokenize_records (FILE.gguf | tokenizer.json) [--plain] [--keep] [--special] [--time]; each text is
// preceded by its length in bytes, 4 bytes little-endian. --plain: special tokens stay text; --keep:
// MalformedText::Keep;
// --special: put BOS and its like around; --back: print the bytes that the ids decode to, in hexadecimal,
// instead of the ids;
// --time: print load and encode times instead.
#include "tests/runtime/text/gguf_vocabulary.h"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

namespace girih {
namespace {

std::string readAll(std::istream &in) { return {std::istreambuf_iterator<char>(in), {}}; }

Expected<Tokenizer> openTokenizer(const std::string &path) {
  if (path.ends_with(".json")) {
    std::ifstream file(path, std::ios::binary);
    return Tokenizer::fromHuggingFace(readAll(file), "");
  }
  GIRIH_ASSIGN(GgufText text, readGgufText(path));
  return Tokenizer::fromGguf(text.vocabulary);
}

std::vector<std::string> readRecords() {
  std::vector<std::string> records;
  uint32_t size;
  while (std::fread(&size, 4, 1, stdin) == 1) {
    std::string text(size, 0);
    if (std::fread(text.data(), 1, size, stdin) != size)
      break;
    records.push_back(std::move(text));
  }
  return records;
}

double seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

void printTimes(const Tokenizer &tokenizer, const std::vector<std::string> &records,
                const EncodeOptions &options) {
  double load = 1e9, encode = 1e9;
  size_t bytes = 0, ids = 0;
  std::vector<std::byte> stored(tokenizer.serialize().begin(), tokenizer.serialize().end());
  for (int i = 0; i < 9; ++i) {
    auto start = std::chrono::steady_clock::now();
    GIRIH_CHECK(Tokenizer::load(stored).isOk());
    load = std::min(load, seconds(start));
    start = std::chrono::steady_clock::now();
    bytes = ids = 0;
    for (const std::string &text : records) {
      ids += tokenizer.encode(text, options).value().size();
      bytes += text.size();
    }
    encode = std::min(encode, seconds(start));
  }
  std::printf("%s: %d tokens in %zu bytes, load %.3f ms, encode %.3f ms for %zu bytes (%.1f MB/s), %zu ids\n",
              std::string(tokenizer.kind()).c_str(), tokenizer.vocabSize(), stored.size(), load * 1e3,
              encode * 1e3, bytes, double(bytes) / encode / 1e6, ids);
}

int run(int argc, char **argv) {
  EncodeOptions options{.addSpecial = false};
  bool isTimed = false, isBack = false;
  for (int i = 2; i < argc; ++i) {
    options.parseSpecial &= std::strcmp(argv[i], "--plain") != 0;
    options.addSpecial |= std::strcmp(argv[i], "--special") == 0;
    isBack |= std::strcmp(argv[i], "--back") == 0;
    isTimed |= std::strcmp(argv[i], "--time") == 0;
    if (std::strcmp(argv[i], "--keep") == 0)
      options.malformed = MalformedText::Keep;
  }
  Expected<Tokenizer> tokenizer = openTokenizer(argc > 1 ? argv[1] : "");
  if (!tokenizer.isOk()) {
    std::fprintf(stderr, "error: %s\n", std::string(tokenizer.status().message()).c_str());
    return 1;
  }
  std::vector<std::string> records = readRecords();
  if (isTimed) {
    printTimes(*tokenizer, records, options);
    return 0;
  }
  for (const std::string &text : records) {
    std::vector<int32_t> ids = tokenizer->encode(text, options).value();
    if (isBack) {
      for (char byte : tokenizer->decodeBytes(ids, false))
        std::printf("%02x", static_cast<unsigned char>(byte));
    } else {
      for (int32_t id : ids)
        std::printf("%d ", id);
    }
    std::printf("\n");
  }
  return 0;
}

} // namespace
} // namespace girih

int main(int argc, char **argv) { return girih::run(argc, argv); }
