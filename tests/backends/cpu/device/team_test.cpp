// SPDX-License-Identifier: Apache-2.0
// A team runs together, meets at barriers, and moves even when there are more members than processors.
#include "backends/cpu/device/processors.h"
#include "backends/cpu/device/team.h"

#include <chrono>
#include <gtest/gtest.h>
#include <limits>
#include <thread>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace girih::cpu {
namespace {

struct Rounds {
  Team *team;
  int numRounds;
  std::vector<int64_t> values; // one a member, on the members' own turn
  std::atomic<int> numErrors{0};
};

// Every member writes, meets, reads what its neighbour wrote, and meets again.
void playRounds(void *context, int64_t index, int64_t numMembers) {
  Rounds &rounds = *static_cast<Rounds *>(context);
  for (int round = 0; round < rounds.numRounds; ++round) {
    rounds.values[static_cast<size_t>(index)] = round * 100 + index;
    Team::barrier(rounds.team, index);
    int64_t neighbour = (index + 1) % numMembers;
    if (rounds.values[static_cast<size_t>(neighbour)] != round * 100 + neighbour)
      ++rounds.numErrors;
    Team::barrier(rounds.team, index);
  }
}

class TeamOf : public ::testing::TestWithParam<int64_t> {};

TEST_P(TeamOf, MeetsAtEveryBarrier) {
  auto team = Team::create(GetParam(), {});
  ASSERT_NE(team, nullptr);
  Rounds rounds{team.get(), 50, std::vector<int64_t>(static_cast<size_t>(GetParam()))};
  for (int run = 0; run < 20; ++run)
    team->run(playRounds, &rounds);
  EXPECT_EQ(rounds.numErrors, 0);
}
// Far more members than a small machine has processors: spinning alone would never end.
INSTANTIATE_TEST_SUITE_P(Sizes, TeamOf, ::testing::Values(1, 2, 3, 8, 17));

TEST(Team, WakesAfterSleeping) {
  auto team = Team::create(3, {});
  std::atomic<int> numCalls{0};
  for (int run = 0; run < 3; ++run) {
    // Longer than the team spins, so that its members sleep in the kernel.
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    team->run([](void *context, int64_t, int64_t) { ++*static_cast<std::atomic<int> *>(context); },
              &numCalls);
  }
  EXPECT_EQ(numCalls, 9);
}

TEST(Team, TwoTeamsOnTheSameProcessorsBothMove) {
  auto first = Team::create(2, {{0}, {0}}), second = Team::create(2, {{0}, {0}});
  Rounds a{first.get(), 200, std::vector<int64_t>(2)}, b{second.get(), 200, std::vector<int64_t>(2)};
  std::thread other([&] { first->run(playRounds, &a); });
  second->run(playRounds, &b);
  other.join();
  EXPECT_EQ(a.numErrors + b.numErrors, 0);
}

#if defined(__x86_64__)
TEST(Team, PlacesItsCallerOnlyWhileItLives) {
  std::vector<int32_t> before = allowedProcessors();
  if (before.size() < 2)
    GTEST_SKIP() << "this machine grants one processor";
  for (int round = 0; round < 2; ++round) {
    auto team = Team::create(2, {{before[0]}, {before[1]}});
    ASSERT_NE(team, nullptr);
    team->run([](void *, int64_t, int64_t) {}, nullptr);
    EXPECT_EQ(allowedProcessors(), std::vector<int32_t>{before[0]});
    team.reset();
    EXPECT_EQ(allowedProcessors(), before);
  }
}

TEST(Team, FlushesDenormalsInsideRunsOnly) {
  unsigned before = _mm_getcsr();
  auto team = Team::create(2, {});
  std::atomic<int> numFlushed{0};
  team->run(
      [](void *context, int64_t, int64_t) {
        volatile float smallest = std::numeric_limits<float>::denorm_min();
        volatile float sum = smallest + smallest;
        if (sum == 0.0f)
          ++*static_cast<std::atomic<int> *>(context);
      },
      &numFlushed);
  EXPECT_EQ(numFlushed, 2);
  EXPECT_EQ(_mm_getcsr(), before);
}
#endif

} // namespace
} // namespace girih::cpu
