// SPDX-License-Identifier: Apache-2.0
// Level "models": whole programs, compiled for the backend beforehand, run from the first token on. Their goldens are the f64
// reference's; and but for `fast`, a token's bits depend neither on how its sequence was cut into steps nor on its company.
#include "tests/backends/conformance/suite.h"

#include "runtime/program/executor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <numeric>
#include <span>

namespace girih::conformance {
namespace {

constexpr int64_t kBlockTokens = 16;
constexpr uint32_t kMostTokens = 64, kBlocksEach = kMostTokens / kBlockTokens, kMostSequences = 3;

using Tokens = std::vector<int32_t>;

// Several sequences, each with blocks of its own, on the subject's first device.
class Runner {
public:
  static Expected<Runner> open(const Subject &subject, std::shared_ptr<const program::Program> program) {
    program::ExecutorOptions options;
    options.devices = {{subject.backend, 0}};
    options.numKvBlocks = kBlocksEach * kMostSequences;
    GIRIH_ASSIGN(auto executor, program::Executor::create(std::move(program), options));
    return Runner(std::move(executor));
  }

  struct Row {
    std::span<const int32_t> tokens;
    uint32_t firstPosition, sequence;
  };
  // The logits after the last token of each row of one step.
  Expected<std::vector<std::vector<float>>> step(const std::vector<Row> &rows) {
    batch.clear();
    for (const Row &row : rows) {
      auto length = row.firstPosition + static_cast<uint32_t>(row.tokens.size());
      bool hasCache = !executor->program().model().recompute;
      auto numBlocks = hasCache ? (length + kBlockTokens - 1) / kBlockTokens : 0;
      batch.addSequence(row.tokens, row.firstPosition,
                        std::span(blocks).subspan(row.sequence * kBlocksEach, static_cast<size_t>(numBlocks)), 1);
    }
    GIRIH_TRY(executor->run(batch));
    std::vector<std::vector<float>> logits;
    for (uint32_t row = 0; row < rows.size(); ++row) {
      auto got = executor->logits(row);
      logits.emplace_back(got.begin(), got.end());
    }
    return logits;
  }
  Expected<std::vector<float>> one(std::span<const int32_t> tokens, uint32_t firstPosition = 0, uint32_t sequence = 0) {
    GIRIH_ASSIGN(auto logits, step({{tokens, firstPosition, sequence}}));
    return std::move(logits.front());
  }

  const program::Crossings &crossings() const { return executor->crossings(); }
  // What the file says that a step of so many tokens copies between two devices; nothing of one that one device runs.
  program::Crossings foretold(uint32_t numTokens, uint32_t numLogitRows) const {
    const program::Executable &variant = executor->executable();
    if (variant.schedules.empty())
      return {};
    auto index = static_cast<size_t>(&executor->entryOf(numTokens) - variant.entries.data());
    return program::crossingsOf(variant.schedules[index], numTokens, numLogitRows);
  }

private:
  explicit Runner(std::unique_ptr<program::Executor> created)
      : executor(std::move(created)), batch(executor->program().model().maxTokensPerStep, kMostSequences, kMostSequences, kBlocksEach),
        blocks(kBlocksEach * kMostSequences) {
    std::iota(blocks.rbegin(), blocks.rend(), 0); // from the last to the first
  }

  std::unique_ptr<program::Executor> executor;
  program::StepBatch batch;
  std::vector<int32_t> blocks;
};

using Judge = std::function<Expected<std::string>(Runner &runner, const program::Program &program)>;

// Every program of the folder; "" from `judge` is a pass.
Finding judgePrograms(const Subject &subject, bool isOfExact, const Judge &judge) {
  if (subject.models.empty())
    return unsupported("no --models names a folder of programs that were compiled for it");
  std::vector<std::filesystem::path> files;
  for (const auto &entry : std::filesystem::directory_iterator(subject.models))
    if (entry.path().extension() == ".girih")
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  int numJudged = 0;
  for (const auto &file : files) {
    auto program = program::Program::open(file.string());
    if (!program.isOk())
      return findingOf(program.status());
    if (isOfExact && ((*program)->model().numerics == "fast" || (*program)->model().recompute))
      continue;
    ++numJudged;
    auto runner = Runner::open(subject, *program);
    if (!runner.isOk())
      return fail(file.filename().string() + ": " + std::string(runner.status().message()));
    auto difference = judge(*runner, **program);
    if (!difference.isOk() || !difference->empty())
      return fail(file.filename().string() + ": " + (difference.isOk() ? *difference : std::string(difference.status().message())));
  }
  return numJudged > 0 ? pass() : unsupported("no program of " + subject.models + " promises this");
}

std::string differenceOf(const std::vector<float> &got, const std::vector<float> &wanted, const std::string &when) {
  for (size_t at = 0; at < wanted.size(); ++at)
    if (std::memcmp(&got[at], &wanted[at], sizeof got[at]) != 0)
      return when + ": the logit of token " + std::to_string(at) + " is " + std::to_string(got[at]) + ", else " + std::to_string(wanted[at]);
  return "";
}

// Tokens that the model has, as many as a sequence of the suite holds.
Tokens tokensOf(const program::Program &program, int32_t seed) {
  const program::Model &model = program.model();
  Tokens tokens(std::min({kMostTokens, model.maxPositions, model.maxTokensPerStep / kMostSequences}));
  for (size_t at = 0; at < tokens.size(); ++at)
    tokens[at] = (static_cast<int32_t>(at) * 37 + seed * 11 + 5) % static_cast<int32_t>(model.vocabSize);
  return tokens;
}

Expected<std::string> answerGoldens(Runner &runner, const program::Program &program) {
  if (program.tables().goldens.empty())
    return std::string("it has no goldens; compile it without --no-golden");
  for (const program::Golden &golden : program.tables().goldens) {
    Tokens tokens = golden.promptTokens;
    for (size_t number = 0; number <= golden.outputTokens.size() && tokens.size() <= kMostTokens; ++number) {
      GIRIH_ASSIGN(auto logits, runner.one(tokens));
      for (size_t at = 0; number == 0 && at < golden.logits.size(); ++at) {
        float got = logits[static_cast<size_t>(golden.logitsIndex[at])];
        if (!(std::fabs(got - golden.logits[at]) <= golden.tolerance))
          return "the logit of token " + std::to_string(golden.logitsIndex[at]) + " after " + std::to_string(tokens.size()) +
                 " tokens is " + std::to_string(got) + ", the reference says " + std::to_string(golden.logits[at]) + " within " +
                 std::to_string(golden.tolerance);
      }
      if (number == golden.outputTokens.size())
        break;
      auto best = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      if (best != golden.outputTokens[number])
        return "token " + std::to_string(number + 1) + " is " + std::to_string(best) + ", the reference says " +
               std::to_string(golden.outputTokens[number]);
      tokens.push_back(best);
    }
  }
  return std::string();
}

// At once, token by token, and in unequal pieces.
Expected<std::string> cutIntoSteps(Runner &runner, const program::Program &program) {
  Tokens tokens = tokensOf(program, 1);
  GIRIH_ASSIGN(auto wanted, runner.one(tokens, 0, 0));
  uint32_t sequence = 1;
  for (size_t piece : {size_t{1}, size_t{7}}) {
    std::vector<float> got;
    for (size_t begin = 0; begin < tokens.size(); begin += piece) {
      auto part = std::span<const int32_t>(tokens).subspan(begin, std::min(piece, tokens.size() - begin));
      GIRIH_ASSIGN(got, runner.one(part, static_cast<uint32_t>(begin), sequence));
    }
    if (std::string difference = differenceOf(got, wanted, "in steps of " + std::to_string(piece) + " tokens"); !difference.empty())
      return difference;
    ++sequence;
  }
  return std::string();
}

// Sequences of a step: a prompt, the rest of another, one more token of a third.
Expected<std::string> keepCompany(Runner &runner, const program::Program &program) {
  std::vector<Tokens> all;
  std::vector<std::vector<float>> wanted;
  for (int32_t sequence = 0; sequence < static_cast<int32_t>(kMostSequences); ++sequence) {
    all.push_back(tokensOf(program, sequence + 2));
    GIRIH_ASSIGN(auto alone, runner.one(all.back(), 0, static_cast<uint32_t>(sequence)));
    wanted.push_back(std::move(alone));
  }
  std::vector<Runner::Row> rows;
  for (uint32_t sequence = 0; sequence < kMostSequences; ++sequence) {
    auto length = static_cast<uint32_t>(all[sequence].size());
    uint32_t past = sequence == 0 ? 0 : sequence == 1 ? length / 3 : length - 1; // what the cache holds is that of before
    rows.push_back({std::span<const int32_t>(all[sequence]).subspan(past), past, sequence});
  }
  GIRIH_ASSIGN(auto together, runner.step(rows));
  for (size_t sequence = 0; sequence < kMostSequences; ++sequence)
    if (std::string difference = differenceOf(together[sequence], wanted[sequence], "sequence " + std::to_string(sequence) + " in company");
        !difference.empty())
      return difference;
  return std::string();
}

// Where another backend runs what this one declines.
Expected<std::string> countCopies(Runner &runner, const program::Program &program) {
  Tokens tokens = tokensOf(program, 1);
  for (size_t numTokens : {size_t{1}, tokens.size() / 2, tokens.size()}) {
    program::Crossings before = runner.crossings();
    GIRIH_ASSIGN([[maybe_unused]] auto logits, runner.one(std::span<const int32_t>(tokens).first(numTokens)));
    program::Crossings after = runner.crossings(), wanted = runner.foretold(static_cast<uint32_t>(numTokens), 1);
    uint64_t numCopies = after.numCopies - before.numCopies, numBytes = after.numBytes - before.numBytes;
    if (numCopies != wanted.numCopies || numBytes != wanted.numBytes)
      return "a step of " + std::to_string(numTokens) + " tokens made " + std::to_string(numCopies) + " copies of " +
             std::to_string(numBytes) + " bytes, the file says " + std::to_string(wanted.numCopies) + " of " +
             std::to_string(wanted.numBytes);
  }
  return std::string();
}

Finding answersAsTheReference(const Subject &subject) { return judgePrograms(subject, false, answerGoldens); }
Finding stepsMayBeCut(const Subject &subject) { return judgePrograms(subject, true, cutIntoSteps); }
Finding copiesAreCounted(const Subject &subject) { return judgePrograms(subject, false, countCopies); }
Finding companyChangesNothing(const Subject &subject) { return judgePrograms(subject, true, keepCompany); }

} // namespace

const std::vector<Case> &modelsCases() {
  static const std::vector<Case> cases = {
      {"models", "answers_as_the_reference", answersAsTheReference},
      {"models", "steps_may_be_cut", stepsMayBeCut},
      {"models", "company_changes_nothing", companyChangesNothing},
      {"models", "copies_are_counted", copiesAreCounted},
  };
  return cases;
}

} // namespace girih::conformance
