// SPDX-License-Identifier: Apache-2.0
// What the tables of a .girih file say, as plain structs: the reader fills them, the writer takes them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace girih::program {

// One way into an executable; the executor picks the entry with the smallest maxTokens that holds the step.
struct Entry {
  std::string symbol;
  uint32_t maxTokens = 0;
  bool isInvariant = false; // a token's result does not depend on the rest of the step, bit for bit
};

// Rows of a shared step's value, from one side's arena to that of the other, or within one.
struct Copy {
  enum class Rows : uint8_t { One, Tokens, LogitRows };
  uint64_t fromOffset = 0, toOffset = 0, rowBytes = 0;
  Rows rows = Rows::One;
  bool isFromRest = false, isToRest = false;
};

// A part of a shared step, after its copies.
struct Part {
  std::vector<Copy> copies;
  bool isOnRest = false;
  int32_t symbol = -1; // in the side's symbols; -1: copies alone
  uint32_t loop = 0;   // parts in a row with the same number repeat together; 0: runs once
  uint32_t repetitions = 1;
};
using Schedule = std::vector<Part>;

// Code for one instruction set.
struct Executable {
  std::string backend;                       // that runs it, by its name
  std::string isa;                           // its variant: what --isa names
  std::vector<std::string> requiredFeatures; // all must be granted by the device
  std::string format;                        // of the image, as the device calls it
  std::span<const uint8_t> image; // reader: bytes of the mapped file; writer: borrowed until finish()
  std::vector<Entry> entries;
  std::vector<Entry> hiddenEntries; // give rows of hidden states in place of logits
  uint64_t arenaBytes = 0;
  uint64_t scratchBytesPerThread = 0;
  std::vector<uint64_t> layoutIds; // of every layout that the tensors use, dense ones included
  int32_t preference = 0;          // larger is tried first
  // Where another backend runs a part of the step; entries are then names alone.
  std::vector<Schedule> schedules;  // one an entry, then one a hidden entry; empty: the entries are the image's own
  std::vector<std::string> symbols; // of the image, in the order of parts
  uint64_t slotBytes = 0;           // of both arenas, from their beginnings: copies stay within them
  std::vector<Executable> rests;    // variants of one other backend's code: without entries, schedules or rests
  bool restHasCache = false, restHasLogits = false;
};

// What crosses between the two sides in one step of `numTokens` tokens that gives `numLogitRows` rows.
struct Crossings {
  uint64_t numCopies = 0, numBytes = 0;
};
Crossings crossingsOf(const Schedule &schedule, uint64_t numTokens, uint64_t numLogitRows);
// How many rows a copy has in such a step.
inline uint64_t rowsOf(const Copy &copy, uint64_t numTokens, uint64_t numLogitRows) {
  return copy.rows == Copy::Rows::One ? 1 : copy.rows == Copy::Rows::Tokens ? numTokens : numLogitRows;
}

// One tensor in the weight section.
struct Tensor {
  std::string name;
  std::vector<int64_t> shape; // logical, row-major, as stored in the checkpoint
  std::string storage;        // the checkpoint's format: "q4_1"
  std::string layout;         // "p16:u4,f16,f16,32", "dense:f32"
  uint64_t layoutId = 0;      // layoutIdOf(layout); Executable::layoutIds must name it
  uint64_t offsetBytes = 0;   // within the weight section; a multiple of kTensorAlignmentBytes
  uint64_t sizeBytes = 0;
  uint32_t crc32c = 0;   // the writer computes it
  std::string treatment; // one line for the quantization report: "kept, lossless"
};

struct Tokenizer {
  std::string kind;                 // what runtime/text understands; empty: the file has no tokenizer
  std::span<const uint8_t> payload; // reader: bytes of the mapped file; writer: borrowed until finish()
  int32_t bosToken = -1;
  std::vector<int32_t> eosTokens;
  bool addBos = false;
  bool addEos = false;
};

struct GenerationDefaults {
  bool hasSampling = false; // false: the checkpoint states none, greedy is the default
  float temperature = 0.0f;
  int32_t topK = 0;
  float topP = 1.0f;
  float minP = 0.0f;
  float repetitionPenalty = 1.0f;
};

// A prompt with answers from the f64 reference or from outside, never from the code under test.
struct Golden {
  std::vector<int32_t> promptTokens;
  std::vector<int32_t> outputTokens; // greedy continuation; may be empty
  std::vector<int32_t> logitsIndex; // which vocabulary entries `logits` holds, for the prompt's last position
  std::vector<float> logits;
  float tolerance = 0.0f;
  std::string source; // "reference f64"
};

struct Model {
  std::string name;
  std::string architecture; // "llama"
  std::string numerics;     // "exact", "invariant", "fast"
  std::string kvType;       // "f32", "f16", "int8"
  uint32_t vocabSize = 0;
  uint32_t numLayers = 0;
  uint32_t maxPositions = 0; // most positions of one sequence
  uint32_t maxTokensPerStep = 0;
  uint32_t maxLogitRows = 0;
  uint64_t kvBlockBytes = 0; // all layers of 16 positions; 0 when recompute
  bool recompute = false;    // no KV cache: each step holds one whole sequence from position 0
  uint64_t numParameters = 0;
  uint32_t hiddenSize = 0; // of the rows that hidden entries give; 0: there are none
};

// One dispatch of the step as the tiler saw it; shown by `girih inspect`.
struct DispatchReport {
  std::string name;
  std::string isa;
  std::string entry;
  std::string tiles; // "rows 6 x columns 64 x k 512"
  std::string strategy;
  std::string matmuls; // "1536x576, 1536x576": columns x depth of each projection in it
  double predictedSeconds = 0.0;   // of a step of the entry's most tokens, at the start of their sequences
  double secondsPerPosition = 0.0; // and so much more for each position that each sequence has in the cache
  uint64_t numBytes = 0;
  uint64_t numOperations = 0;
  std::string bound; // "memory" or "compute"
  uint64_t footprintBytes = 0;
  std::string level; // the memory level that the footprint fits
  uint32_t repetitions = 1; // how often a step runs it: layers
  uint32_t loop = 0;        // rows of one entry with the same number repeat together; 0: runs once
};

struct Note {
  std::string topic;
  std::string text;
};

struct Tables {
  uint32_t stepAbiVersion = 1;
  std::string compiler;        // "girih 0.1.0, LLVM 22.1.8"
  std::vector<uint8_t> digest; // SHA-256 of the source weights and options: keys KV caches
  Model model;
  std::vector<Executable> executables;
  std::vector<Tensor> tensors;
  Tokenizer tokenizer;
  std::string chatTemplate; // Jinja, as the checkpoint has it; empty: none
  std::string bosText;
  std::string eosText;
  GenerationDefaults generation;
  std::vector<Golden> goldens;
  std::vector<DispatchReport> dispatches;
  std::vector<Note> notes;
  std::string machineJson;
};

inline constexpr uint64_t kSectionAlignmentBytes =
    4096;                                             // so that a section can be mapped and shared in place
inline constexpr uint64_t kTensorAlignmentBytes = 64; // a cache line, and the widest vector load

// The id of a layout descriptor such as "p16:u4,f16,f16,32": FNV-1a 64 of its bytes. The descriptor names a
// definition that never changes; a layout that does change gets another descriptor.
inline uint64_t layoutIdOf(std::string_view layout) {
  uint64_t hash = 0xcbf29ce484222325;
  for (char letter : layout)
    hash = (hash ^ static_cast<uint8_t>(letter)) * 0x100000001b3;
  return hash;
}

} // namespace girih::program
