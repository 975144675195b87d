// SPDX-License-Identifier: Apache-2.0
// Decodes program.fbs. The verifier proves that offsets stay in the buffer; this file checks what they mean.
#include "runtime/program/decode_tables.h"

#include "runtime/program/program_generated.h"

#include <cstring>

namespace girih::program {
namespace {

using Text = flatbuffers::String;

// Tables may refer to one string many times, so a small hostile file could decode to gigabytes; an honest one
// decodes to less than its own size.
constexpr uint64_t kDecodedBytesFloor = 1 << 20;

class Decoder {
public:
  Decoder(std::span<const uint8_t> file, uint64_t tableBytes)
      : file(file), budgetBytes(kDecodedBytesFloor + 4 * tableBytes) {}

  Expected<DecodedTables> decode(const fb::Program &root);

private:
  std::string text(const Text *string) {
    if (!string || !take(string->size()))
      return {};
    return string->str();
  }
  template <typename T> std::vector<T> numbers(const flatbuffers::Vector<T> *vector) {
    if (!vector || !take(uint64_t{vector->size()} * sizeof(T)))
      return {};
    // The verifier does not look at the alignment of a vector's elements: copied as bytes, it does not
    // matter.
    std::vector<T> result(vector->size());
    if (!result.empty())
      std::memcpy(result.data(), vector->Data(), result.size() * sizeof(T));
    return result;
  }
  std::vector<Entry> entries(const flatbuffers::Vector<flatbuffers::Offset<fb::Entry>> *vector) {
    std::vector<Entry> result;
    for (uint32_t index = 0, end = count(vector); index < end; ++index) {
      const fb::Entry &entry = *vector->Get(index);
      result.push_back({text(entry.symbol()), entry.max_tokens(), entry.invariant()});
    }
    return result;
  }
  // How many elements to decode: none once the budget is spent. 64 bytes stand for the struct of each.
  template <typename V> uint32_t count(const V *vector) {
    return vector && take(uint64_t{vector->size()} * 64) ? vector->size() : 0;
  }
  bool take(uint64_t numBytes) {
    isSpent = isSpent || numBytes > budgetBytes;
    if (!isSpent)
      budgetBytes -= numBytes;
    return !isSpent;
  }

  Expected<std::span<const uint8_t>> section(const fb::Section &where, const std::string &name);
  Status decodeExecutables(const fb::Program &root);
  // `isRest`: of another's, which has none of its own.
  Expected<Executable> executable(const fb::Executable &from, bool isRest);
  std::vector<Schedule> schedules(const fb::Executable &from);
  Status decodeTensors(const fb::Program &root);
  Status decodeTokenizer(const fb::Program &root);
  void decodeModel(const fb::Model &from);
  void decodeGoldens(const fb::Program &root);
  void decodeReport(const fb::Program &root);

  std::span<const uint8_t> file;
  uint64_t budgetBytes;
  bool isSpent = false;
  DecodedTables result;
};

Expected<std::span<const uint8_t>> Decoder::section(const fb::Section &where, const std::string &name) {
  uint64_t offsetBytes = where.offset_bytes(), sizeBytes = where.size_bytes();
  if (offsetBytes % kSectionAlignmentBytes != 0)
    return dataLoss(name + " starts at byte " + std::to_string(offsetBytes) +
                    "; sections start at multiples of " + std::to_string(kSectionAlignmentBytes) +
                    "; compile the file again");
  if (offsetBytes > file.size() || sizeBytes > file.size() - offsetBytes)
    return dataLoss(name + " has " + std::to_string(sizeBytes) + " bytes at " + std::to_string(offsetBytes) +
                    ", the file ends at " + std::to_string(file.size()) + "; copy or compile the file again");
  std::span<const uint8_t> bytes = file.subspan(offsetBytes, sizeBytes);
  result.sections.push_back({name, bytes, where.crc32c()});
  return bytes;
}

std::vector<Schedule> Decoder::schedules(const fb::Executable &from) {
  std::vector<Schedule> all;
  for (uint32_t index = 0, end = count(from.schedules()); index < end; ++index) {
    Schedule &schedule = all.emplace_back();
    const auto *parts = from.schedules()->Get(index)->parts();
    for (uint32_t number = 0, numParts = count(parts); number < numParts; ++number) {
      const fb::Part &part = *parts->Get(number);
      Part &to = schedule.emplace_back(Part{{}, part.on_rest(), part.symbol(), part.loop(), part.repetitions()});
      for (uint32_t i = 0, n = count(part.copies()); i < n; ++i) {
        const fb::Copy &copy = *part.copies()->Get(i);
        to.copies.push_back({copy.from_offset(), copy.to_offset(), copy.row_bytes(), static_cast<Copy::Rows>(copy.rows()),
                             copy.from_rest(), copy.to_rest()});
      }
    }
  }
  return all;
}

Expected<Executable> Decoder::executable(const fb::Executable &from, bool isRest) {
  Executable to;
  to.backend = text(from.backend());
  to.isa = text(from.isa());
  to.format = text(from.format());
  for (uint32_t i = 0, n = count(from.required_features()); i < n; ++i)
    to.requiredFeatures.push_back(text(from.required_features()->Get(i)));
  to.entries = entries(from.entries());
  to.hiddenEntries = entries(from.hidden_entries());
  to.arenaBytes = from.arena_bytes();
  to.scratchBytesPerThread = from.scratch_bytes_per_thread();
  to.layoutIds = numbers(from.layout_ids());
  to.preference = from.preference();
  for (uint32_t i = 0, n = count(from.symbols()); i < n; ++i)
    to.symbols.push_back(text(from.symbols()->Get(i)));
  to.slotBytes = from.slot_bytes();
  to.restHasCache = from.rest_has_cache();
  to.restHasLogits = from.rest_has_logits();
  GIRIH_ASSIGN(to.image, section(*from.image(), "executable " + to.backend + ":" + to.isa));
  if (isRest)
    return to;
  to.schedules = schedules(from);
  for (uint32_t i = 0, n = count(from.rests()); i < n; ++i) {
    GIRIH_ASSIGN(Executable rest, executable(*from.rests()->Get(i), true));
    to.rests.push_back(std::move(rest));
  }
  return to;
}

Status Decoder::decodeExecutables(const fb::Program &root) {
  for (uint32_t index = 0, end = count(root.executables()); index < end; ++index) {
    GIRIH_ASSIGN(Executable to, executable(*root.executables()->Get(index), false));
    result.tables.executables.push_back(std::move(to));
  }
  return {};
}

Status Decoder::decodeTensors(const fb::Program &root) {
  GIRIH_ASSIGN(result.weights, section(*root.weights(), "the weight section"));
  for (uint32_t index = 0, end = count(root.tensors()); index < end; ++index) {
    const fb::Tensor &from = *root.tensors()->Get(index);
    Tensor to;
    to.name = text(from.name());
    to.shape = numbers(from.shape());
    to.storage = text(from.storage());
    to.layout = text(from.layout());
    to.layoutId = from.layout_id();
    to.offsetBytes = from.offset_bytes();
    to.sizeBytes = from.size_bytes();
    to.crc32c = from.crc32c();
    to.treatment = text(from.treatment());
    uint64_t available = result.weights.size();
    if (to.offsetBytes % kTensorAlignmentBytes != 0 || to.offsetBytes > available ||
        to.sizeBytes > available - to.offsetBytes)
      return dataLoss("tensor \"" + to.name + "\" has " + std::to_string(to.sizeBytes) + " bytes at " +
                      std::to_string(to.offsetBytes) + " of a weight section of " +
                      std::to_string(available) + " bytes, offsets being multiples of " +
                      std::to_string(kTensorAlignmentBytes) + "; compile the file again");
    result.tables.tensors.push_back(std::move(to));
  }
  return {};
}

Status Decoder::decodeTokenizer(const fb::Program &root) {
  const fb::Tokenizer *from = root.tokenizer();
  if (!from)
    return {};
  Tokenizer &to = result.tables.tokenizer;
  to.kind = text(from->kind());
  GIRIH_ASSIGN(to.payload, section(*from->payload(), "the tokenizer"));
  to.bosToken = from->bos_token();
  to.eosTokens = numbers(from->eos_tokens());
  to.addBos = from->add_bos();
  to.addEos = from->add_eos();
  return {};
}

void Decoder::decodeModel(const fb::Model &from) {
  Model &to = result.tables.model;
  to.name = text(from.name());
  to.architecture = text(from.architecture());
  to.numerics = text(from.numerics());
  to.kvType = text(from.kv_type());
  to.vocabSize = from.vocab_size();
  to.numLayers = from.num_layers();
  to.maxPositions = from.max_positions();
  to.maxTokensPerStep = from.max_tokens_per_step();
  to.maxLogitRows = from.max_logit_rows();
  to.kvBlockBytes = from.kv_block_bytes();
  to.recompute = from.recompute();
  to.numParameters = from.num_parameters();
  to.hiddenSize = from.hidden_size();
}

void Decoder::decodeGoldens(const fb::Program &root) {
  for (uint32_t index = 0, end = count(root.goldens()); index < end; ++index) {
    const fb::Golden &from = *root.goldens()->Get(index);
    result.tables.goldens.push_back({numbers(from.prompt_tokens()), numbers(from.output_tokens()),
                                     numbers(from.logits_index()), numbers(from.logits()), from.tolerance(),
                                     text(from.source())});
  }
}

void Decoder::decodeReport(const fb::Program &root) {
  for (uint32_t index = 0, end = count(root.dispatches()); index < end; ++index) {
    const fb::DispatchReport &from = *root.dispatches()->Get(index);
    DispatchReport to;
    to.name = text(from.name());
    to.isa = text(from.isa());
    to.entry = text(from.entry());
    to.tiles = text(from.tiles());
    to.strategy = text(from.strategy());
    to.predictedSeconds = from.predicted_seconds();
    to.numBytes = from.bytes();
    to.numOperations = from.operations();
    to.bound = text(from.bound());
    to.footprintBytes = from.footprint_bytes();
    to.level = text(from.level());
    to.repetitions = from.repetitions();
    to.loop = from.loop();
    to.secondsPerPosition = from.seconds_per_position();
    to.matmuls = text(from.matmuls());
    result.tables.dispatches.push_back(std::move(to));
  }
  for (uint32_t index = 0, end = count(root.notes()); index < end; ++index) {
    const fb::Note &from = *root.notes()->Get(index);
    result.tables.notes.push_back({text(from.topic()), text(from.text())});
  }
}

Expected<DecodedTables> Decoder::decode(const fb::Program &root) {
  Tables &to = result.tables;
  to.stepAbiVersion = root.step_abi_version();
  to.compiler = text(root.compiler());
  to.digest = numbers(root.digest());
  decodeModel(*root.model());
  GIRIH_TRY(decodeTensors(root));
  GIRIH_TRY(decodeExecutables(root));
  GIRIH_TRY(decodeTokenizer(root));
  to.chatTemplate = text(root.chat_template());
  to.bosText = text(root.bos_text());
  to.eosText = text(root.eos_text());
  if (const fb::GenerationDefaults *from = root.generation())
    to.generation = {from->has_sampling(), from->temperature(), from->top_k(),
                     from->top_p(),        from->min_p(),       from->repetition_penalty()};
  decodeGoldens(root);
  decodeReport(root);
  to.machineJson = text(root.machine_json());
  if (isSpent)
    return dataLoss(
        "the tables repeat their contents beyond four times their own size; no compiler writes that, "
        "so compile the file again");
  return std::move(result);
}

} // namespace

Expected<DecodedTables> decodeTables(std::span<const uint8_t> file, std::span<const uint8_t> tableBytes) {
  flatbuffers::Verifier verifier(tableBytes.data(), tableBytes.size(), /*max_depth=*/16);
  if (!fb::VerifyProgramBuffer(verifier))
    return dataLoss("the tables (" + std::to_string(tableBytes.size()) +
                    " bytes) are no FlatBuffer of a program; copy or compile the file again");
  return Decoder(file, tableBytes.size()).decode(*fb::GetProgram(tableBytes.data()));
}

} // namespace girih::program
