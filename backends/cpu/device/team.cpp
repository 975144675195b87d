// SPDX-License-Identifier: Apache-2.0
// The team's epochs and barriers: a counter that goes up, members that wait for it to change.
#include "backends/cpu/device/team.h"

#include "backends/cpu/device/processors.h"

#include <algorithm>
#include <chrono>
#include <climits>
#include <csignal>
#include <ctime>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace girih::cpu {
namespace {

// Most waits at a barrier last some microseconds: a pure spin sees the change soonest.
constexpr int64_t kSpinNanoseconds = 10'000;
// Then a spin goes on only while the one waited for is on a processor, and no longer than this.
constexpr int64_t kPatienceNanoseconds = 300'000;
constexpr int kLooksPerRound = 64; // some 3 us; between rounds the time is asked

int64_t timeOf(clockid_t clock) {
  timespec time;
  return ::clock_gettime(clock, &time) == 0 ? int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec : 0;
}

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb"); // waits some ten cycles; `yield` is nothing on most cores
#endif
}

uint32_t *futexWord(std::atomic<uint32_t> &word) { return reinterpret_cast<uint32_t *>(&word); }

// The default control word with denormals flushed to zero on input and output: a few of them would otherwise
// slow a step a hundredfold, and generated code has one numerics everywhere.
class FlushDenormals {
public:
#if defined(__x86_64__)
  FlushDenormals() : saved(_mm_getcsr()) { _mm_setcsr(0x9fc0); }
  ~FlushDenormals() { _mm_setcsr(saved); }

private:
  unsigned saved;
#elif defined(__aarch64__)
  FlushDenormals() : saved(control()) { setControl(kFlushToZero); }
  ~FlushDenormals() { setControl(saved); }

private:
  static constexpr uint64_t kFlushToZero = uint64_t{1} << 24; // FPCR.FZ; all else: nearest even, no traps
  static uint64_t control() {
    uint64_t value;
    __asm__ volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void setControl(uint64_t value) { __asm__ volatile("msr fpcr, %0" : : "r"(value)); }

  uint64_t saved;
#endif
};

// Keeps the calling thread on these processors. Fails harmlessly when the mask has shrunk meanwhile.
void stayOn(const std::vector<int32_t> &processors) {
  if (processors.empty())
    return;
  int32_t count = *std::max_element(processors.begin(), processors.end()) + 1;
  size_t setBytes = CPU_ALLOC_SIZE(count);
  cpu_set_t *set = CPU_ALLOC(count);
  CPU_ZERO_S(setBytes, set);
  for (int32_t processor : processors)
    CPU_SET_S(static_cast<size_t>(processor), setBytes, set);
  ::sched_setaffinity(0, setBytes, set);
  CPU_FREE(set);
}

// The team that placed the calling thread as its member 0, and where the thread might run before. It is not ours: what
// it starts later would stay on the one processor too.
struct Placing {
  const Team *team = nullptr;
  std::vector<int32_t> before;
};
thread_local Placing placing;

} // namespace

void Team::watchClockOf(Seat &seat, pthread_t thread) {
  clockid_t clock;
  if (::pthread_getcpuclockid(thread, &clock) == 0)
    seat.clock.store(clock, std::memory_order_relaxed);
}

// Whether the member that is waited for has used no processor time between two calls about it.
bool Team::isAway(Watch &watch, int64_t memberIndex) const {
  int64_t usedNanoseconds = timeOf(seats[static_cast<size_t>(memberIndex)].clock.load(std::memory_order_relaxed));
  bool isStill = watch.memberIndex == memberIndex && watch.usedNanoseconds == usedNanoseconds;
  watch = {memberIndex, usedNanoseconds};
  return isStill;
}

// Who keeps `word` from changing: at a meeting the first that has not come, between runs the caller of run().
int64_t Team::awaited(const Word &word, uint32_t seen) const {
  for (int64_t index = 0; &word == &meeting && index < memberCount; ++index)
    if (seats[static_cast<size_t>(index)].meetings.load(std::memory_order_relaxed) == seen)
      return index;
  return 0;
}

// Spins while that may be short, then sleeps. A member that has lost its processor to another process comes back
// after milliseconds: whoever sleeps meanwhile leaves its own processor to others and has time to its credit when
// they meet again, so that the team's members run together. Yielding instead would cost each of them a turn.
void Team::waitWhile(Word &word, uint32_t seen) {
  Watch watch;
  int64_t start = 0, waited = 0;
  while (waited < kPatienceNanoseconds) {
    for (int look = 0; look < kLooksPerRound; ++look) {
      if (word.value.load(std::memory_order_acquire) != seen)
        return;
      relax();
    }
    int64_t time = timeOf(CLOCK_MONOTONIC);
    start = start == 0 ? time : start;
    waited = time - start;
    if (waited > kSpinNanoseconds && isAway(watch, awaited(word, seen)))
      break;
  }
  // Announced before the kernel compares the word again: advance() either sees the sleeper or the kernel the
  // change.
  word.numSleepers.fetch_add(1, std::memory_order_seq_cst);
  while (word.value.load(std::memory_order_seq_cst) == seen)
    ::syscall(SYS_futex, futexWord(word.value), FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
  word.numSleepers.fetch_sub(1, std::memory_order_relaxed);
}

void Team::advance(Word &word, uint32_t next) {
  word.value.store(next, std::memory_order_seq_cst);
  if (word.numSleepers.load(std::memory_order_seq_cst) > 0)
    ::syscall(SYS_futex, futexWord(word.value), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

void Team::meet(int64_t memberIndex) {
  // Read before arriving: it cannot change until this member has arrived.
  uint32_t seen = meeting.value.load(std::memory_order_relaxed);
  seats[static_cast<size_t>(memberIndex)].meetings.store(seen + 1, std::memory_order_relaxed);
  if (numArrived.fetch_add(1, std::memory_order_acq_rel) + 1 < static_cast<uint32_t>(memberCount))
    return waitWhile(meeting, seen);
  numArrived.store(0, std::memory_order_relaxed); // visible with the meeting's release
  advance(meeting, seen + 1);
}

void Team::barrier(void *team, int64_t memberIndex) {
  Team &self = *static_cast<Team *>(team);
  if (self.memberCount > 1)
    self.meet(memberIndex);
}

void Team::run(Work newWork, void *newContext) {
  FlushDenormals flush;
  if (memberCount == 1)
    return newWork(newContext, 0, 1);
  if (!ownProcessors.empty() && placing.team != this) {
    if (!placing.team)
      placing.before = allowedProcessors();
    stayOn(ownProcessors);
    placing.team = this;
  }
  watchClockOf(seats[0], ::pthread_self());
  work = newWork;
  context = newContext;
  advance(epoch, epoch.value.load(std::memory_order_relaxed) + 1);
  newWork(newContext, 0, memberCount);
  meet(0);
}

void Team::serve(int64_t memberIndex) {
  FlushDenormals flush;
  for (uint32_t seen = 0;;) {
    waitWhile(epoch, seen);
    seen = epoch.value.load(std::memory_order_acquire);
    if (!work)
      return;
    work(context, memberIndex, memberCount);
    meet(memberIndex);
  }
}

void *Team::begin(void *argument) {
  Member &member = *static_cast<Member *>(argument);
  stayOn(member.processors);
  ::pthread_setname_np(::pthread_self(), "girih-team");
  member.team->serve(member.index);
  return nullptr;
}

std::unique_ptr<Team> Team::create(int64_t numMembers, const std::vector<std::vector<int32_t>> &processors) {
  std::unique_ptr<Team> team(new Team(numMembers));
  bool isPinned = static_cast<int64_t>(processors.size()) == numMembers;
  if (isPinned)
    team->ownProcessors = processors[0];
  team->members.reserve(static_cast<size_t>(numMembers));
  // The process's signals are for its own threads.
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  bool isComplete = true;
  for (int64_t index = 1; index < numMembers && isComplete; ++index) {
    auto own = isPinned ? processors[static_cast<size_t>(index)] : std::vector<int32_t>();
    team->members.push_back({team.get(), index, std::move(own), {}});
    Member &member = team->members.back();
    isComplete = ::pthread_create(&member.thread, nullptr, begin, &member) == 0;
    if (isComplete)
      watchClockOf(team->seats[static_cast<size_t>(index)], member.thread);
    else
      team->members.pop_back();
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return isComplete ? std::move(team) : nullptr;
}

Team::~Team() {
  work = nullptr;
  advance(epoch, epoch.value.load(std::memory_order_relaxed) + 1);
  for (Member &member : members)
    ::pthread_join(member.thread, nullptr);
  if (placing.team == this) {
    stayOn(placing.before);
    placing = {};
  }
}

} // namespace girih::cpu
