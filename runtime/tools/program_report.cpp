// SPDX-License-Identifier: Apache-2.0
// The report of `girih inspect`.
#include "runtime/tools/program_report.h"

#include "runtime/base/json.h"
#include "runtime/base/sha256.h"

#include <algorithm>
#include <iomanip>
#include <map>
#include <sstream>
#include <tuple>

namespace girih::tools {
namespace {

constexpr double kSmallShare = 0.005;  // of an entry's predicted time: smaller dispatches are summed up

// Tensors of one storage, layout and treatment, summed up.
struct QuantizationRow {
  size_t numTensors = 0;
  uint64_t numElements = 0;
  uint64_t sizeBytes = 0;
};
using QuantizationRows = std::map<std::tuple<std::string, std::string, std::string>, QuantizationRow>;

QuantizationRows quantizationOf(const program::Tables &tables) {
  QuantizationRows rows;
  for (const program::Tensor &tensor : tables.tensors) {
    QuantizationRow &row = rows[{tensor.storage, tensor.layout, tensor.treatment}];
    uint64_t numElements = 1;
    for (int64_t extent : tensor.shape)
      numElements *= static_cast<uint64_t>(extent);
    ++row.numTensors;
    row.numElements += numElements;
    row.sizeBytes += tensor.sizeBytes;
  }
  return rows;
}

std::string shapeText(const std::vector<int64_t> &shape) {
  std::string text;
  for (int64_t extent : shape)
    text += (text.empty() ? "" : "x") + std::to_string(extent);
  return text.empty() ? "scalar" : text;
}

std::string megabytes(uint64_t numBytes) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << static_cast<double>(numBytes) / 1e6 << " MB";
  return text.str();
}

std::string microseconds(double seconds) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << seconds * 1e6 << " us";
  return text.str();
}

std::string samplingText(const program::GenerationDefaults &generation) {
  if (!generation.hasSampling)
    return "greedy (the checkpoint states no sampling)";
  std::ostringstream text;
  text << "temperature " << generation.temperature << ", top-k " << generation.topK << ", top-p " << generation.topP
       << ", min-p " << generation.minP << ", repetition penalty " << generation.repetitionPenalty;
  return text.str();
}

void addModel(std::ostream &out, const program::Program &program) {
  const program::Tables &tables = program.tables();
  const program::Model &model = tables.model;
  out << program.path() << ": " << megabytes(program.fileBytes()) << ", by " << tables.compiler << "\n\n"
      << "model       " << model.name << " (" << model.architecture << "), " << model.numParameters / 1e6 << " M parameters, "
      << model.numLayers << " layers, " << model.vocabSize << " tokens in the vocabulary\n"
      << "numerics    " << model.numerics << ", KV cache " << model.kvType << ", "
      << model.kvBlockBytes / 16.0 / 1024 << " KiB a position" << (model.recompute ? "; no cache: each step recomputes its sequence" : "") << '\n'
      << "bounds      " << model.maxPositions << " positions a sequence, " << model.maxTokensPerStep << " tokens and "
      << model.maxLogitRows << " logit rows a step\n"
      << "text        " << (tables.tokenizer.kind.empty() ? "no tokenizer: token ids only" : tables.tokenizer.kind + ", " + megabytes(tables.tokenizer.payload.size()))
      << (tables.chatTemplate.empty() ? ", no chat template" : ", chat template") << '\n'
      << "sampling    " << samplingText(tables.generation) << '\n'
      << "goldens     " << tables.goldens.size() << (tables.goldens.empty() ? "" : " (`girih verify` compares)") << '\n';
}

void addVariants(std::ostream &out, const program::Tables &tables) {
  out << "\nvariants (the first that this machine grants is used)\n";
  for (const program::Executable &executable : tables.executables) {
    out << "  " << std::left << std::setw(10) << executable.isa << " " << executable.backend << ", " << executable.format << ", "
        << executable.image.size() / 1024 << " KiB of code, arena " << executable.arenaBytes / 1024 << " KiB, needs";
    for (const std::string &feature : executable.requiredFeatures)
      out << ' ' << feature;
    out << '\n';
    for (const program::Entry &entry : executable.entries)
      out << "             " << entry.symbol << ": up to " << entry.maxTokens << " tokens, "
          << (entry.isInvariant ? "invariant" : "not invariant: results may differ with the rest of the step by rounding") << '\n';
    for (const program::Entry &entry : executable.hiddenEntries)
      out << "             " << entry.symbol << ": up to " << entry.maxTokens << " tokens, hidden states of " << tables.model.hiddenSize
          << " numbers for embeddings\n";
  }
}

void addQuantization(std::ostream &out, const program::Tables &tables, bool everything) {
  out << "\nquantization\n";
  if (everything) {
    for (const program::Tensor &tensor : tables.tensors)
      out << "  " << std::left << std::setw(44) << tensor.name << ' ' << std::setw(14) << shapeText(tensor.shape) << ' ' << std::setw(7)
          << tensor.storage << ' ' << std::setw(22) << tensor.layout << ' ' << tensor.treatment << '\n';
    return;
  }
  for (const auto &[kind, row] : quantizationOf(tables))
    out << "  " << std::left << std::setw(7) << std::get<0>(kind) << " as " << std::setw(22) << std::get<1>(kind) << ' ' << std::right
        << std::setw(5) << row.numTensors << " tensors " << std::setw(10) << megabytes(row.sizeBytes) << "  " << std::get<2>(kind) << '\n';
}

// What each entry of a step that two backends share does, and what crosses.
void addSharing(std::ostream &out, const program::Tables &tables) {
  for (const program::Executable &executable : tables.executables) {
    if (executable.schedules.empty())
      continue;
    out << "\na step's parts run on " << executable.backend << " and " << executable.rests.front().backend << " by turns; the cache is with "
        << (executable.restHasCache ? executable.rests.front() : executable).backend << '\n';
    for (size_t index = 0; index < executable.entries.size(); ++index) {
      const program::Entry &entry = executable.entries[index];
      program::Crossings crossings = program::crossingsOf(executable.schedules[index], entry.maxTokens, entry.maxTokens);
      out << "  " << std::left << std::setw(14) << entry.symbol << ' ' << crossings.numCopies << " copies between them a step, of "
          << std::fixed << std::setprecision(1) << static_cast<double>(crossings.numBytes) / 1024 / entry.maxTokens << " KiB a token\n";
    }
  }
}

void addDispatch(std::ostream &out, const program::DispatchReport &dispatch) {
  out << "    " << std::left << std::setw(42) << dispatch.name << ' ' << dispatch.tiles << "; " << dispatch.strategy << "; "
      << microseconds(dispatch.predictedSeconds) << ", " << dispatch.bound << "-bound; "
      << dispatch.footprintBytes / 1024 << " KiB in " << dispatch.level << '\n';
}

// A dispatch's function is an entry, or a part of one that two backends share.
bool isOfEntry(const std::string &function, const std::string &symbol) {
  return function == symbol || function.compare(0, symbol.size() + 1, symbol + "_") == 0;
}

// Every dispatch of the preferred variant whose prediction counts, those below kSmallShare of their entry's in one line;
// with `everything` all of all variants.
void addDispatches(std::ostream &out, const program::Tables &tables, bool everything) {
  if (tables.dispatches.empty() || tables.executables.empty())
    return;
  auto preferred = std::max_element(tables.executables.begin(), tables.executables.end(),
                                    [](const auto &left, const auto &right) { return left.preference < right.preference; });
  out << "\ntiling, with the time that the machine's description predicts (of a repeated layer, once"
      << (everything ? ")\n" : "; --all: every dispatch of every variant)\n");
  for (const program::Executable &executable : tables.executables)
    for (const program::Entry &entry : executable.entries) {
      if (!everything && executable.isa != preferred->isa)
        continue;
      double entrySeconds = 0, restSeconds = 0;
      size_t numRest = 0;
      auto belongs = [&](const program::DispatchReport &dispatch) { return dispatch.isa == executable.isa && isOfEntry(dispatch.entry, entry.symbol); };
      for (const program::DispatchReport &dispatch : tables.dispatches)
        entrySeconds += belongs(dispatch) ? dispatch.predictedSeconds : 0;
      out << "  " << executable.isa << ' ' << entry.symbol << '\n';
      for (const program::DispatchReport &dispatch : tables.dispatches) {
        bool isSmall = dispatch.predictedSeconds < entrySeconds * kSmallShare;
        if (belongs(dispatch) && (everything || !isSmall))
          addDispatch(out, dispatch);
        else if (belongs(dispatch))
          restSeconds += dispatch.predictedSeconds, ++numRest;
      }
      if (numRest > 0)
        out << "    and " << numRest << " small ones: " << microseconds(restSeconds) << '\n';
    }
}

void writeModel(JsonWriter &writer, const program::Model &model) {
  writer.key("model").beginObject().member("name", model.name).member("architecture", model.architecture);
  writer.member("parameters", model.numParameters).member("layers", model.numLayers).member("vocab_size", model.vocabSize);
  writer.member("numerics", model.numerics).member("kv_type", model.kvType).member("kv_block_bytes", model.kvBlockBytes);
  writer.member("max_positions", model.maxPositions).member("max_tokens_per_step", model.maxTokensPerStep);
  writer.member("hidden_size", model.hiddenSize);
  writer.member("max_logit_rows", model.maxLogitRows).member("recompute", model.recompute).endObject();
}

// Copies and bytes of a step of each entry's most tokens.
void writeSharing(JsonWriter &writer, const program::Executable &executable) {
  writer.key("shared").beginObject().member("rest", executable.rests.front().backend).member("rest_has_cache", executable.restHasCache);
  writer.member("rest_has_logits", executable.restHasLogits).member("slot_bytes", executable.slotBytes).key("rest_variants").beginArray();
  for (const program::Executable &rest : executable.rests)
    writer.beginObject().member("isa", rest.isa).member("code_bytes", rest.image.size()).endObject();
  writer.endArray().key("entries").beginArray();
  for (size_t index = 0; index < executable.entries.size(); ++index) {
    const program::Entry &entry = executable.entries[index];
    const program::Schedule &schedule = executable.schedules[index];
    program::Crossings crossings = program::crossingsOf(schedule, entry.maxTokens, entry.maxTokens);
    auto onRest = std::count_if(schedule.begin(), schedule.end(), [](const program::Part &part) { return part.isOnRest; });
    writer.beginObject().member("entry", entry.symbol).member("parts", schedule.size()).member("parts_on_rest", uint64_t(onRest));
    writer.member("copies", crossings.numCopies).member("bytes", crossings.numBytes).endObject();
  }
  writer.endArray().endObject();
}

void writeVariants(JsonWriter &writer, const program::Tables &tables) {
  writer.key("variants").beginArray();
  for (const program::Executable &executable : tables.executables) {
    writer.beginObject().member("isa", executable.isa).member("backend", executable.backend).member("format", executable.format);
    writer.arrayMember("required_features", executable.requiredFeatures).member("code_bytes", executable.image.size());
    writer.member("arena_bytes", executable.arenaBytes).member("scratch_bytes_per_thread", executable.scratchBytesPerThread);
    writer.member("preference", executable.preference).key("entries").beginArray();
    for (const program::Entry &entry : executable.entries)
      writer.beginObject().member("symbol", entry.symbol).member("max_tokens", entry.maxTokens).member("invariant", entry.isInvariant).endObject();
    writer.endArray();
    if (!executable.schedules.empty())
      writeSharing(writer, executable);
    writer.endObject();
  }
  writer.endArray();
}

void writeTensors(JsonWriter &writer, const program::Tables &tables) {
  writer.key("tensors").beginArray();
  for (const program::Tensor &tensor : tables.tensors)
    writer.beginObject().member("name", tensor.name).arrayMember("shape", tensor.shape).member("storage", tensor.storage)
        .member("layout", tensor.layout).member("bytes", tensor.sizeBytes).member("treatment", tensor.treatment).endObject();
  writer.endArray().key("quantization").beginArray();
  for (const auto &[kind, row] : quantizationOf(tables))
    writer.beginObject().member("storage", std::get<0>(kind)).member("layout", std::get<1>(kind)).member("treatment", std::get<2>(kind))
        .member("tensors", row.numTensors).member("elements", row.numElements).member("bytes", row.sizeBytes).endObject();
  writer.endArray();
}

void writeDispatches(JsonWriter &writer, const program::Tables &tables) {
  writer.key("dispatches").beginArray();
  for (const program::DispatchReport &dispatch : tables.dispatches)
    writer.beginObject().member("name", dispatch.name).member("isa", dispatch.isa).member("entry", dispatch.entry)
        .member("tiles", dispatch.tiles).member("strategy", dispatch.strategy).member("predicted_seconds", dispatch.predictedSeconds)
        .member("bytes", dispatch.numBytes).member("operations", dispatch.numOperations).member("bound", dispatch.bound)
        .member("footprint_bytes", dispatch.footprintBytes).member("level", dispatch.level)
        .member("repetitions", dispatch.repetitions).member("loop", dispatch.loop).endObject();
  writer.endArray();
}

void writeText(JsonWriter &writer, const program::Tables &tables) {
  const program::GenerationDefaults &generation = tables.generation;
  writer.key("generation").beginObject().member("states_sampling", generation.hasSampling).member("temperature", generation.temperature);
  writer.member("top_k", generation.topK).member("top_p", generation.topP).member("min_p", generation.minP);
  writer.member("repetition_penalty", generation.repetitionPenalty).endObject();
  writer.key("tokenizer");
  if (tables.tokenizer.kind.empty())
    writer.null();
  else
    writer.beginObject().member("kind", tables.tokenizer.kind).member("bytes", tables.tokenizer.payload.size())
        .member("bos_token", tables.tokenizer.bosToken).arrayMember("eos_tokens", tables.tokenizer.eosTokens)
        .member("add_bos", tables.tokenizer.addBos).member("add_eos", tables.tokenizer.addEos).endObject();
  writer.member("chat_template", tables.chatTemplate);
}

}  // namespace

std::string programReportText(const program::Program &program, bool everything) {
  std::ostringstream out;
  addModel(out, program);
  addVariants(out, program.tables());
  addQuantization(out, program.tables(), everything);
  addSharing(out, program.tables());
  addDispatches(out, program.tables(), everything);
  for (const program::Note &note : program.tables().notes)
    out << "\nnote on " << note.topic << ": " << note.text << '\n';
  return out.str();
}

std::string programReportJson(const program::Program &program) {
  const program::Tables &tables = program.tables();
  JsonWriter writer;
  writer.beginObject().member("file", program.path()).member("file_bytes", program.fileBytes()).member("compiler", tables.compiler);
  writer.member("step_abi_version", tables.stepAbiVersion).member("digest", hexDigits(tables.digest));
  writeModel(writer, tables.model);
  writeVariants(writer, tables);
  writeText(writer, tables);
  writeTensors(writer, tables);
  writeDispatches(writer, tables);
  writer.key("goldens").beginArray();
  for (const program::Golden &golden : tables.goldens)
    writer.beginObject().member("prompt_tokens", golden.promptTokens.size()).member("output_tokens", golden.outputTokens.size())
        .member("logits", golden.logits.size()).member("tolerance", golden.tolerance).member("source", golden.source).endObject();
  writer.endArray().key("notes").beginArray();
  for (const program::Note &note : tables.notes)
    writer.beginObject().member("topic", note.topic).member("text", note.text).endObject();
  writer.endArray().key("machine");
  if (tables.machineJson.empty())
    writer.null();
  else
    writer.raw(tables.machineJson);
  return writer.endObject().take();
}

}  // namespace girih::tools
