// SPDX-License-Identifier: Apache-2.0
// Ledger: what is added is there again, once, whatever happened to process and file.
#include "runtime/server/ledger.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace girih::server {
namespace {

namespace fs = std::filesystem;

class LedgerTest : public ::testing::Test {
protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "girih-ledger-XXXXXX";
    folder = mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(folder); }
  std::string path() const { return folder + "/used"; }
  std::unique_ptr<Ledger> open(uint64_t maxFileBytes = 1 << 20) {
    auto ledger = Ledger::open(path(), maxFileBytes);
    GIRIH_CHECK(ledger.isOk());
    return std::move(ledger).value();
  }
  static Used sumOf(const Ledger &ledger, std::string owner, UsedBy by = UsedBy::Live) {
    auto sums = ledger.sums();
    return sums[Ledger::digestOf(owner)][static_cast<size_t>(by)];
  }
  std::string folder;
};

TEST_F(LedgerTest, AddsUpOverAllRuns) {
  for (int run = 0; run < 3; ++run) {
    auto ledger = open();
    ledger->add("one", UsedBy::Live, {1, 100, 40, 7, 0});
    ledger->add("one", UsedBy::Batch, {1, 5, 0, 2, 0});
    ledger->add("two", UsedBy::Live, {0, 0, 0, 0, 999});
  }
  auto ledger = open();
  EXPECT_EQ(sumOf(*ledger, "one").numRequests, 3u);
  EXPECT_EQ(sumOf(*ledger, "one").numInputTokens, 300u);
  EXPECT_EQ(sumOf(*ledger, "one").numCachedTokens, 120u);
  EXPECT_EQ(sumOf(*ledger, "one").numOutputTokens, 21u);
  EXPECT_EQ(sumOf(*ledger, "one", UsedBy::Batch).numInputTokens, 15u);
  EXPECT_EQ(sumOf(*ledger, "two").retainedByteSeconds, 2997u);
  EXPECT_EQ(sumOf(*ledger, "two").numRequests, 0u);
}

// What add() returned from is there, and nothing twice: a child adds and tells us, until it is killed.
TEST_F(LedgerTest, KillingTheProcessLosesNothing) {
  uint64_t numTold = 0;
  for (int round = 0; round < 5; ++round) {
    int channel[2];
    ASSERT_EQ(::pipe(channel), 0);
    pid_t child = ::fork();
    if (child == 0) {
      auto ledger = open(4096); // so small that it is replaced many times
      for (;;) {
        ledger->add("one", UsedBy::Live, {1, 1, 0, 0, 0});
        if (::write(channel[1], "x", 1) != 1)
          ::_exit(1);
      }
    }
    ::close(channel[1]);
    char told;
    for (int count = 0; count < 300 + round * 77; ++count)
      numTold += ::read(channel[0], &told, 1) == 1;
    ::kill(child, SIGKILL);
    while (::read(channel[0], &told, 1) == 1)
      ++numTold;
    ::close(channel[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    // One may have been written and not told.
    uint64_t numFound = sumOf(*open(), "one").numRequests;
    EXPECT_GE(numFound, numTold);
    EXPECT_LE(numFound, numTold + static_cast<uint64_t>(round) + 1);
  }
  EXPECT_LT(fs::file_size(path()), 8192u) << "replaced by its sums";
}

TEST_F(LedgerTest, LeavesOutWhatIsDamagedAndSaysSo) {
  {
    auto ledger = open();
    for (int count = 0; count < 10; ++count)
      ledger->add("one", UsedBy::Live, {1, 1, 1, 1, 1});
  }
  std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(3 * 128 + 60);
  file.put('\x7f');
  file.seekp(0, std::ios::end);
  file << "half a record";
  file.close();
  auto ledger = open();
  EXPECT_EQ(sumOf(*ledger, "one").numRequests, 9u);
  EXPECT_EQ(ledger->numDamaged(), 2u);
  ledger->add("one", UsedBy::Live, {1, 0, 0, 0, 0});
  ledger.reset();
  ledger = open();
  EXPECT_EQ(sumOf(*ledger, "one").numRequests, 10u) << "records begin where records begin";
  EXPECT_EQ(ledger->numDamaged(), 1u);
}

TEST_F(LedgerTest, AnyBytesAreNoLedgerAndNoCrash) {
  for (size_t size : {1u, 127u, 128u, 129u, 5000u}) {
    std::ofstream(path(), std::ios::binary | std::ios::trunc) << std::string(size, '\x5a');
    auto ledger = open();
    EXPECT_TRUE(ledger->sums().empty());
    ledger->add("one", UsedBy::Live, {1, 0, 0, 0, 0});
    EXPECT_EQ(sumOf(*open(), "one").numRequests, 1u) << size;
  }
}

// A disk that is full for a while: what it did not take is written when it does, and half a record never stays.
TEST_F(LedgerTest, AFullDiskDelaysButLosesNothing) {
  auto ledger = open();
  ledger->add("one", UsedBy::Live, {1, 0, 0, 0, 0});
  struct sigaction ignore = {}, before;
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGXFSZ, &ignore, &before);
  rlimit limit{}, full{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
  full = limit;
  full.rlim_cur = 128 + 50;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
  for (int count = 0; count < 5; ++count)
    ledger->add("one", UsedBy::Live, {1, 0, 0, 0, 0});
  EXPECT_EQ(ledger->numUnwritten(), 1u) << "added up while they wait";
  ::setrlimit(RLIMIT_FSIZE, &limit);
  ::sigaction(SIGXFSZ, &before, nullptr);
  EXPECT_EQ(fs::file_size(path()), 128u);
  ledger->add("one", UsedBy::Live, {1, 0, 0, 0, 0});
  EXPECT_EQ(ledger->numUnwritten(), 0u);
  ledger.reset();
  EXPECT_EQ(sumOf(*open(), "one").numRequests, 7u);
}

} // namespace
} // namespace girih::server
