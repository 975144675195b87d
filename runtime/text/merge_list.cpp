// SPDX-License-Identifier: Apache-2.0
// Resolves and recovers merges.
#include "runtime/text/merge_list.h"

#include <algorithm>
#include <tuple>

namespace girih {
namespace {

size_t characterCount(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// Real vocabularies stay far below; cutting a longer token in every way would take time in the square of its
// length.
constexpr size_t kLongestDerived = 512;

struct DerivedMerge {
  VocabularyDescription::Merge merge;
  float score;
  size_t leftLength, rightLength; // in characters
};

} // namespace

Expected<std::vector<VocabularyDescription::Merge>>
resolveMerges(const std::vector<std::pair<std::string_view, std::string_view>> &written,
              const TokenIndex &index, const std::vector<TokenDescription> &tokens) {
  std::vector<VocabularyDescription::Merge> merges;
  merges.reserve(written.size());
  std::string joined;
  for (auto [left, right] : written) {
    joined.assign(left).append(right);
    auto l = index.find(left), r = index.find(right), result = index.find(joined);
    if (l == index.end() || r == index.end() || result == index.end())
      return invalidArgument("merge " + std::to_string(merges.size()) + " is \"" + std::string(left) +
                             "\" + \"" + std::string(right) + "\"; both and their join must be tokens");
    if (!(tokens[size_t(result->second)].flags & kTokenSpecial))
      merges.push_back({l->second, r->second, result->second});
  }
  return merges;
}

std::vector<VocabularyDescription::Merge> deriveMerges(const std::vector<std::string> &spellings,
                                                       const std::vector<float> &scores) {
  TokenIndex index;
  for (size_t id = 0; id < spellings.size(); ++id)
    if (!spellings[id].empty())
      index.emplace(spellings[id], static_cast<int32_t>(id));
  std::vector<DerivedMerge> derived;
  for (size_t id = 0; id < spellings.size(); ++id) {
    std::string_view text = spellings[id];
    if (text.empty() || text.size() > kLongestDerived || index.at(text) != static_cast<int32_t>(id))
      continue;
    size_t begin = derived.size();
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if ((text[cut] & 0xC0) == 0x80)
        continue;
      auto left = index.find(text.substr(0, cut)), right = index.find(text.substr(cut));
      if (left != index.end() && right != index.end())
        derived.push_back({{left->second, right->second, static_cast<int32_t>(id)},
                           id < scores.size() ? scores[id] : 0.0f,
                           characterCount(left->first),
                           characterCount(right->first)});
    }
    std::sort(derived.begin() + static_cast<ptrdiff_t>(begin), derived.end(),
              [](const auto &a, const auto &b) {
                return std::tie(a.merge.left, a.merge.right) < std::tie(b.merge.left, b.merge.right);
              });
  }
  // Descending, ties in the order above: by index rather than std::stable_sort, whose buffer libstdc++ 12
  // deprecates.
  std::vector<uint32_t> order(derived.size());
  for (uint32_t i = 0; i < order.size(); ++i)
    order[i] = i;
  std::sort(order.begin(), order.end(), [&](uint32_t i, uint32_t j) {
    const DerivedMerge &a = derived[i], &b = derived[j];
    return std::tie(b.score, b.leftLength, b.rightLength, i) <
           std::tie(a.score, a.leftLength, a.rightLength, j);
  });
  std::vector<VocabularyDescription::Merge> merges;
  for (uint32_t i : order)
    merges.push_back(derived[i].merge);
  return merges;
}

} // namespace girih
