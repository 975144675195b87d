// SPDX-License-Identifier: Apache-2.0
// Level "execution": entries, bindings, order, reuse and guard bands, with `copy` alone: it needs no arithmetic.
#include "tests/backends/conformance/graph_bench.h"
#include "tests/backends/conformance/machine_facts.h"

#include "runtime/abi/graph.h"
#include "runtime/abi/step.h"
#include "runtime/hal/call.h"

#include <algorithm>
#include <numeric>

namespace girih::conformance {

using hal::Call;
using hal::Device;

namespace {

constexpr uint64_t kBindingBytes = GraphBench::kBindingBytes;

std::string copyEntry(const std::string &name, const std::string &type, const std::string &extents,
                      const std::string &from, uint64_t fromOffset, const std::string &to, uint64_t toOffset) {
  return "entry " + name + "\nvalue a " + from + " " + std::to_string(fromOffset) + " " + type + " " + extents +
         "\nvalue b " + to + " " + std::to_string(toOffset) + " " + type + " " + extents + "\ncopy a b\nend\n";
}

std::vector<uint8_t> pattern(size_t numBytes, uint8_t first) {
  std::vector<uint8_t> bytes(numBytes);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

// 1, primes, vectors +- 1: a tail that is dropped or a vector too many is seen at once.
Finding copiesEveryExtent(const Subject &subject) {
  for (const auto &[type, elementBytes] : {std::pair<const char *, size_t>{"i8", 1}, {"f16", 2}, {"f32", 4}}) {
    std::string body;
    std::vector<std::string> entries;
    std::vector<size_t> sizes;
    for (size_t columns : {1, 2, 7, 15, 16, 17, 31, 33, 64, 67})
      for (size_t rows : {1, 3, 5}) {
        std::string extents = std::to_string(rows) + "x" + std::to_string(columns);
        entries.push_back("e" + extents);
        sizes.push_back(rows * columns * elementBytes);
        body += copyEntry(entries.back(), type, extents, "weights", 64, "arena", 128);
      }
    BENCH(bench, body, entries);
    for (size_t entry = 0; entry < entries.size(); ++entry) {
      std::vector<uint8_t> sent = pattern(sizes[entry], 3);
      GIRIH_TRY_FINDING(bench.resetGuards());
      GIRIH_TRY_FINDING(bench.bindings[GIRIH_STEP_BINDING_WEIGHTS].write(64, sent));
      GIRIH_TRY_FINDING(bench.run(entry));
      EXPECT_BYTES(bench, GIRIH_STEP_BINDING_ARENA, 128, sent);
      EXPECT_BYTES(bench, GIRIH_STEP_BINDING_WEIGHTS, 64, sent);
    }
  }
  return pass();
}

Finding entriesAreToldApart(const Subject &subject) {
  std::string body;
  std::vector<std::string> names;
  for (int index = 0; index < 4; ++index) {
    names.push_back("entry" + std::to_string(index));
    body += copyEntry(names.back(), "i8", "8", "weights", 64 * static_cast<uint64_t>(index), "arena", 0);
  }
  std::reverse(names.begin(), names.end()); // the host's order counts, not the image's
  BENCH(bench, body, names);
  GIRIH_TRY_FINDING(bench.bindings[GIRIH_STEP_BINDING_WEIGHTS].write(0, pattern(256, 0)));
  for (uint64_t entry : {2, 0, 3, 1}) {
    GIRIH_TRY_FINDING(bench.run(entry));
    EXPECT_BYTES(bench, GIRIH_STEP_BINDING_ARENA, 0, pattern(8, static_cast<uint8_t>(64 * (3 - entry))));
  }
  return pass();
}

Finding bindingsAreToldApart(const Subject &subject) {
  const char *names[] = {"weights", "kv_pool", "arena", "logits"};
  std::string body;
  std::vector<std::string> entries;
  std::vector<std::pair<int, int>> ways;
  for (int from = 0; from < GIRIH_STEP_NUM_BINDINGS; ++from)
    for (int to = 1; to < GIRIH_STEP_NUM_BINDINGS; ++to) { // weights are read only
      if (from == to)
        continue;
      entries.push_back(std::string(names[from]) + "_" + names[to]);
      ways.emplace_back(from, to);
      body += copyEntry(entries.back(), "i8", "100", names[from], 64, names[to], 192);
    }
  BENCH(bench, body, entries);
  for (size_t entry = 0; entry < ways.size(); ++entry) {
    auto [from, to] = ways[entry];
    std::vector<uint8_t> sent = pattern(100, 9);
    GIRIH_TRY_FINDING(bench.resetGuards());
    GIRIH_TRY_FINDING(bench.bindings[static_cast<size_t>(from)].write(64, sent));
    GIRIH_TRY_FINDING(bench.run(entry));
    EXPECT_BYTES(bench, to, 192, sent);
  }
  return pass();
}

// What is written between two runs is what the second reads.
Finding nothingIsStale(const Subject &subject) {
  BENCH(bench, copyEntry("e", "i8", "64", "weights", 0, "arena", 64), {"e"});
  for (int round = 0; round < 100; ++round) {
    std::vector<uint8_t> sent = pattern(64, static_cast<uint8_t>(round));
    GIRIH_TRY_FINDING(bench.bindings[GIRIH_STEP_BINDING_WEIGHTS].write(0, sent));
    GIRIH_TRY_FINDING(bench.run(0));
    EXPECT_BYTES(bench, GIRIH_STEP_BINDING_ARENA, 64, sent);
  }
  return pass();
}

// Each statement reads what the one before it wrote: without a barrier between them some threads come too early.
Finding statementsAreOrdered(const Subject &subject) {
  std::string body = "entry e\nvalue v0 weights 0 i8 512\n";
  for (int index = 1; index < 6; ++index)
    body += "value v" + std::to_string(index) + " arena " + std::to_string((5 - index) * 512) + " i8 512\n";
  for (int index = 1; index < 6; ++index)
    body += "copy v" + std::to_string(index - 1) + " v" + std::to_string(index) + "\n";
  BENCH(bench, body + "end\n", {"e"}, 2);
  for (int round = 0; round < 20; ++round) {
    std::vector<uint8_t> sent = pattern(512, static_cast<uint8_t>(round * 11)), all;
    for (int copy = 0; copy < 5; ++copy)
      all.insert(all.end(), sent.begin(), sent.end());
    GIRIH_TRY_FINDING(bench.bindings[GIRIH_STEP_BINDING_WEIGHTS].write(0, sent));
    GIRIH_TRY_FINDING(bench.run(0));
    EXPECT_BYTES(bench, GIRIH_STEP_BINDING_ARENA, 0, all);
  }
  return pass();
}

Finding dynamicRowsAreFollowed(const Subject &subject) {
  BENCH(bench, copyEntry("e", "i8", "Tx16", "weights", 0, "arena", 32), {"e"});
  std::vector<uint8_t> sent = pattern(kBindingBytes, 1);
  GIRIH_TRY_FINDING(bench.bindings[GIRIH_STEP_BINDING_WEIGHTS].write(0, sent));
  for (int64_t numTokens : {1, 2, 5, 8, 13}) { // growing, so that the guard behind is still one
    GIRIH_TRY_FINDING(bench.run(0, numTokens));
    EXPECT_BYTES(bench, GIRIH_STEP_BINDING_ARENA, 32,
                 std::vector<uint8_t>(sent.begin(), sent.begin() + numTokens * 16));
  }
  return pass();
}

Finding ticketsGrowAndWait(const Subject &subject) {
  BENCH(bench, copyEntry("e", "i8", "64", "weights", 0, "arena", 0), {"e"});
  girih_submission submission = bench.submission(0);
  uint64_t tickets[5] = {};
  Call call;
  for (uint64_t &ticket : tickets)
    GIRIH_TRY_FINDING(
        call.status(subject.run().submit(bench.device->handle(), &submission, &ticket, call.message())));
  if (!std::is_sorted(tickets, tickets + 5) || std::adjacent_find(tickets, tickets + 5) != tickets + 5)
    return fail("tickets do not grow");
  for (int index : {4, 0, 2, 2, 4}) // the last first: earlier ones may still be waited for
    GIRIH_TRY_FINDING(call.status(subject.run().wait(bench.device->handle(), tickets[index], call.message())));
  return pass();
}

Finding absentEntriesAreErrors(const Subject &subject) {
  BENCH(bench, copyEntry("e", "i8", "64", "weights", 0, "arena", 0), {"e"});
  if (compileGraph(subject, bench.device, GIRIH_GRAPH_FIRST_LINE + copyEntry("e", "i8", "64", "weights", 0, "arena", 0),
                   {"other"})
          .isOk())
    return fail("an executable without the entry `other` gives it");
  return pass();
}

Finding viewsBeyondTheBufferAreErrors(const Subject &subject) {
  // A unit that moves bytes knows the bindings it moves them between; a load knows none.
  auto machine = readMachine(subject);
  if (!takesGraphs(subject) && (!machine.isOk() || machine->dmaIn.empty()))
    return unsupported("its images hold addresses, not extents");
  BENCH(bench, copyEntry("e", "i8", "8192", "weights", 0, "arena", 0), {"e"});
  return bench.run(0).isOk() ? fail("8192 bytes are copied between bindings of 4096") : pass();
}

Finding unknownOperationsAreRefused(const Subject &subject) {
  auto device = Device::open(*subject.backend, 0, {1});
  if (!device.isOk())
    return findingOf(device.status());
  const std::string bodies[] = {
      "entry e\nvalue a arena 0 f32 8\nfrobnicate a a\nend\n",
      "entry e\nvalue a nowhere 0 f32 8\nvalue b arena 0 f32 8\ncopy a b\nend\n",
      "entry e\nvalue a arena 0 f32 8\ncopy a c\nend\n",
      "entry e\nvalue a arena 0 f32 8\nvalue b arena 64 f32 9\ncopy a b\nend\n",
      "entry e\nvalue a arena 0 f32 8\nvalue b arena 64 f32 8\ncopy a b\n",
  };
  if (auto taken = compileGraph(subject, *device, GIRIH_GRAPH_FIRST_LINE + copyEntry("e", "i8", "1", "weights", 0, "arena", 0), {"e"});
      !taken.isOk())
    return findingOf(taken.status());
  for (const std::string &body : bodies)
    if (compileGraph(subject, *device, GIRIH_GRAPH_FIRST_LINE + body, {"e"}).isOk())
      return fail("this graph compiles and loads: " + body);
  return pass();
}

} // namespace

const std::vector<Case> &executionCases() {
  static const std::vector<Case> cases = {
      {"execution", "copies_every_extent", copiesEveryExtent},
      {"execution", "entries_are_told_apart", entriesAreToldApart},
      {"execution", "bindings_are_told_apart", bindingsAreToldApart},
      {"execution", "nothing_is_stale", nothingIsStale},
      {"execution", "statements_are_ordered", statementsAreOrdered},
      {"execution", "dynamic_rows_are_followed", dynamicRowsAreFollowed},
      {"execution", "tickets_grow_and_wait", ticketsGrowAndWait},
      {"execution", "absent_entries_are_errors", absentEntriesAreErrors},
      {"execution", "views_beyond_the_buffer_are_errors", viewsBeyondTheBufferAreErrors},
      {"execution", "unknown_operations_are_refused", unknownOperationsAreRefused},
  };
  return cases;
}

} // namespace girih::conformance
