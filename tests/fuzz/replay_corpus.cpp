// SPDX-License-Identifier: Apache-2.0
// The main function of a fuzz target in a normal build: runs every file of the corpus through it once.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t numBytes);

namespace {

std::vector<std::filesystem::path> filesBelow(const char *argument) {
  if (!std::filesystem::is_directory(argument))
    return {argument};
  std::vector<std::filesystem::path> paths;
  for (const auto &entry : std::filesystem::directory_iterator(argument))
    paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end()); // so that a crash is the same one every time
  return paths;
}

} // namespace

int main(int argc, char **argv) {
  int numInputs = 0;
  for (int argument = 1; argument < argc; ++argument)
    for (const std::filesystem::path &path : filesBelow(argv[argument])) {
      std::ifstream file(path, std::ios::binary);
      std::vector<char> content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
      std::printf("%s\n", path.filename().c_str());
      std::fflush(stdout); // the last line names the input that crashed
      // An allocation of just this size, so that a sanitizer sees the first byte beyond.
      std::vector<uint8_t> bytes(content.begin(), content.end());
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      ++numInputs;
    }
  std::printf("%d inputs replayed\n", numInputs);
  return numInputs > 0 ? 0 : 1;
}
