// SPDX-License-Identifier: Apache-2.0
// A run of load on an endpoint: who asks what and when, and what came of it.
#pragma once

#include "runtime/tools/load_client.h"

namespace girih::tools {

struct LoadPlan {
  uint32_t numClients = 8; // that ask at the same time; in an open loop: at most so many
  double requestsPerSecond =
      0; // 0: closed loop, each client asks again when it was answered; else Poisson arrivals
  uint32_t numConversations = 64;
  uint32_t turns = 1;         // of a conversation: each asks again with all that was said before
  uint32_t promptWords = 200; // of each turn's question; a word of ours is about one token
  uint32_t sharedWords = 0;   // before every conversation, the same for all
  uint32_t outputTokens = 64;
  bool isMixed = false;   // questions and answers of a quarter to seven quarters of these lengths
  bool ignoresEnd = true; // answers have exactly outputTokens
  std::string model;
  uint64_t seed = 1;
};

struct LoadResult {
  double seconds = 0.0; // from the first request to the last answer
  std::vector<Outcome> answered, failed;
  uint64_t numRejected = 0; // of the failed: 429 and 503

  uint64_t numPromptTokens() const;
  uint64_t numCachedTokens() const;
  uint64_t numOutputTokens() const;
  // Sorted seconds: to the first text, between two pieces of text, to the end.
  std::vector<double> firstText() const;
  std::vector<double> betweenPieces() const;
  std::vector<double> whole() const;
};

// Runs the plan to its end. In an open loop times count from the planned arrival, so that a slow server does not
// slow its clients down unseen.
LoadResult runLoad(const Endpoint &endpoint, const LoadPlan &plan);

// The value below which a share of the sorted ones lies; 0 of none.
double quantileOf(const std::vector<double> &sorted, double share);

} // namespace girih::tools
