// SPDX-License-Identifier: Apache-2.0
// girih serve: one model behind an OpenAI-compatible HTTP endpoint.
#include "runtime/server/endpoints.h"
#include "runtime/server/http_server.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/loaded_model.h"

#include <ctime>
#include <filesystem>
#include <iostream>

#include <sys/resource.h>

namespace girih::tools {
namespace {

struct ServeFlags {
  std::string file;
  std::string host = "127.0.0.1";
  int64_t port = 8080;
  std::string apiKey;
  std::string modelName;
  int64_t maxSequences = 64;
  int64_t maxQueued = 256;
  int64_t kvMegabytes = 0;
  ExecutionFlags execution;
};

void declare(CommandLine &line, ServeFlags &flags) {
  line.positional("FILE", flags.file, "A .girih file, a checkpoint (.gguf file or Hugging Face folder), or smollm2");
  line.text("--host", "ADDRESS", flags.host, "Address to listen on; 0.0.0.0: every interface");
  line.integer("--port", flags.port, 0, 65535, "Port to listen on; 0: any free one");
  line.text("--api-key", "K", flags.apiKey, "Ask every client for this key (all routes but /health)");
  line.text("--model-name", "NAME", flags.modelName, "What clients may call the model, besides its own name");
  line.integer("--max-sequences", flags.maxSequences, 1, 4096, "Sequences that may share a step");
  line.integer("--max-queued", flags.maxQueued, 0, 1 << 20, "Requests that may wait for a place; more are answered with 429");
  line.integer("--kv-mib", flags.kvMegabytes, 0, 1 << 24, "Memory of the KV cache in MiB; 0: 4 full contexts, at most 1 GiB");
  flags.execution.declare(line);
  line.examples("Examples:\n"
                "  girih serve smollm2\n"
                "  girih serve model.girih --host 0.0.0.0 --port 9000 --api-key \"$KEY\"\n\n"
                "Routes: /v1/chat/completions, /v1/completions, /v1/models, /health, /metrics.\n"
                "SIGTERM or Ctrl-C takes no more requests and ends when those in hand are answered; a second one ends at once.");
}

// A thousand clients need a thousand descriptors; the soft limit is often 1024.
void raiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

std::vector<std::string> servedNames(const LoadedModel &model, const ServeFlags &flags) {
  std::vector<std::string> names;
  std::string stem = std::filesystem::path(flags.file).stem().string();
  for (const std::string &name : {flags.modelName, model.program->model().name, stem})
    if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end())
      names.push_back(name);
  return names;
}

Expected<server::ServedModel> prepareModel(LoadedModel &model, const ServeFlags &flags) {
  server::ServedModel served;
  served.names = servedNames(model, flags);
  served.createdSeconds = time(nullptr);
  if (model.hasChatTemplate()) {
    GIRIH_ASSIGN(served.chatTemplate, model.chatTemplate());
  }
  served.tokenizer = model.tokenizer;
  served.stopTokens = model.stopTokens();
  served.generation = model.tables().generation;
  engine::EngineOptions options = flags.execution.engineOptions();
  options.maxSequences = static_cast<uint32_t>(flags.maxSequences);
  options.maxQueued = static_cast<uint32_t>(flags.maxQueued);
  options.kvBytes = static_cast<uint64_t>(flags.kvMegabytes) << 20;
  GIRIH_ASSIGN(served.engine, engine::Engine::create(model.program, options));
  return served;
}

// One screen: what runs, and three lines that can be pasted.
void greet(const LoadedModel &model, server::Service &service, const ServeFlags &flags, uint16_t port) {
  const engine::Engine &engine = service.engine();
  const program::Model &facts = model.program->model();
  std::string host = flags.host == "0.0.0.0" ? "127.0.0.1" : flags.host;
  if (host.find(':') != std::string::npos)
    host = "[" + host + "]";
  std::string url = "http://" + host + ":" + std::to_string(port);
  std::string key = flags.apiKey.empty() ? "" : " -H \"Authorization: Bearer $KEY\"";
  std::string name = service.model().names.front();
  engine::EngineStats stats = engine.stats();
  std::cout << name << " (" << facts.architecture << ", " << facts.numerics << ") on " << engine.executable().isa << ", "
            << engine.numThreads() << " threads\n"
            << "context " << engine.contextTokens() << " tokens, " << flags.maxSequences << " sequences a step, KV cache "
            << (stats.numKvBlocks * facts.kvBlockBytes >> 20) << " MiB (" << facts.kvType << ", " << stats.numKvBlocks << " blocks)\n"
            << "listening on " << url << (flags.apiKey.empty() ? "" : ", with a key") << "\n\n"
            << "  curl " << url << "/v1/models" << key << "\n"
            << "  curl " << url << "/v1/chat/completions" << key << " -d '{\"model\":\"" << name << "\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]}'\n"
            << "  curl " << url << "/v1/completions" << key << " -d '{\"prompt\":\"Once upon a time\",\"max_tokens\":32,\"stream\":true}'\n"
            << std::endl;
}

}  // namespace

Expected<int> serveCommand(const Arguments &arguments) {
  ServeFlags flags;
  CommandLine line("serve", "Answers OpenAI clients over HTTP; concurrent requests share the model's steps.");
  declare(line, flags);
  if (auto exitStatus = line.parse(arguments))
    return *exitStatus;
  raiseDescriptorLimit();
  GIRIH_ASSIGN(LoadedModel model, loadModel(flags.file, /*needsText=*/true));
  GIRIH_ASSIGN(auto served, prepareModel(model, flags));
  server::ServiceOptions serviceOptions;
  serviceOptions.apiKey = flags.apiKey;
  serviceOptions.maxActiveRequests = static_cast<size_t>(flags.maxSequences + flags.maxQueued);
  server::Service service(std::move(served), serviceOptions);

  server::HttpServerOptions httpOptions;
  httpOptions.host = flags.host;
  httpOptions.port = static_cast<uint16_t>(flags.port);
  httpOptions.drainOnSignals = true;
  GIRIH_ASSIGN(auto httpServer, server::HttpServer::create(httpOptions, server::makeHandlers(service)));
  greet(model, service, flags, httpServer->port());
  httpServer->run();
  // Before the server goes: the service's threads may still be answering.
  service.shutDown();
  std::cerr << "girih serve: ended\n";
  return 0;
}

}  // namespace girih::tools
