// SPDX-License-Identifier: Apache-2.0
// Team: persistent threads that run one function together, with a barrier.
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>
#include <memory>
#include <pthread.h>
#include <vector>

namespace girih::cpu {

// Member 0 is the thread that calls run(), the others belong to the team. Who waits, at a barrier or between
// runs, spins for a moment, longer while the one waited for is on a processor, and then sleeps, so that two teams
// on the same processors both move. run() is called by one thread at a time. Denormals are flushed to zero inside run(), in every
// member; the caller's setting returns with run().
class Team {
public:
  using Work = void (*)(void *context, int64_t memberIndex, int64_t numMembers);

  // Null when the system has no room for so many threads. Requires: numMembers >= 1. `processors` says where each member
  // may run (the thread that calls run() too, from its first call on, until it destroys the team); empty: the kernel
  // places them.
  static std::unique_ptr<Team> create(int64_t numMembers, const std::vector<std::vector<int32_t>> &processors);
  ~Team();

  int64_t numMembers() const { return memberCount; }
  // Runs work(context, i, numMembers) once in each member, and returns when all have.
  void run(Work work, void *context);
  // As girih_step_args wants it: returns when every member has called it.
  static void barrier(void *team, int64_t memberIndex);

private:
  // Three words that are written by different members at different times, each on its own cache line.
  struct alignas(64) Word {
    std::atomic<uint32_t> value{0};
    std::atomic<uint32_t> numSleepers{0};
  };
  // What the others see of a member.
  struct alignas(64) Seat {
    std::atomic<uint32_t> meetings{0};        // that it has come to
    std::atomic<clockid_t> clock{CLOCK_THREAD_CPUTIME_ID}; // its thread's processor time
  };
  // What a waiting member last saw of the one it waits for.
  struct Watch {
    int64_t memberIndex = -1, usedNanoseconds = 0;
  };
  explicit Team(int64_t numMembers)
      : memberCount(numMembers), seats(static_cast<size_t>(numMembers)) {}
  void meet(int64_t memberIndex);
  void serve(int64_t memberIndex);
  static void watchClockOf(Seat &seat, pthread_t thread);
  bool isAway(Watch &watch, int64_t memberIndex) const;
  int64_t awaited(const Word &word, uint32_t seen) const;
  static void advance(Word &word, uint32_t next);
  void waitWhile(Word &word, uint32_t seen);

  struct Member {
    Team *team;
    int64_t index;
    std::vector<int32_t> processors; // empty: any
    pthread_t thread;
  };
  static void *begin(void *member);

  const int64_t memberCount;
  std::vector<Seat> seats;
  std::vector<Member> members; // without member 0
  std::vector<int32_t> ownProcessors; // of member 0
  Word epoch;                  // counts run()s
  Word meeting;                // counts barriers
  alignas(64) std::atomic<uint32_t> numArrived{0};
  Work work = nullptr; // null in an epoch: the team is dissolved
  void *context = nullptr;
};

} // namespace girih::cpu
