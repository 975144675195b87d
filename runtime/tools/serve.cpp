// SPDX-License-Identifier: Apache-2.0
// girih serve: one model, or those of a folder, behind an OpenAI-compatible HTTP endpoint.
#include "runtime/base/sha256.h"
#include "runtime/server/endpoints.h"
#include "runtime/server/http_server.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/loaded_model.h"
#include "runtime/tools/model_cache.h"
#include "runtime/tools/served_folder.h"
#include "runtime/tools/served_model.h"

#include <ctime>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <thread>

#include <sys/resource.h>

namespace girih::tools {
namespace {

struct ServeFlags {
  std::string file;
  std::string modelsFolder;
  int64_t modelMegabytes = 0;
  std::string host = "127.0.0.1";
  int64_t port = 8080;
  std::string apiKey;
  std::string apiKeyFile;
  std::string modelName;
  bool sharePrefixes = false;
  std::string allowedHosts;
  std::string allowedOrigins;
  int64_t maxSequences = 64;
  int64_t maxQueued = 256;
  int64_t maxQueuedTokens = 262144;
  int64_t requestTimeoutSeconds = 600;
  std::optional<double> maxSlowdown;
  std::string logFormat = "none";
  bool vllmMetricNames = false;
  int64_t kvMegabytes = 0;
  std::string kvFolder;
  int64_t kvFolderMegabytes = 4096;
  int64_t kvFolderDays = 30;
  std::string stateFolder;
  int64_t adminPort = -1;
  ExecutionFlags execution;
};

void declare(CommandLine &line, ServeFlags &flags) {
  line.positional("FILE", flags.file, "A .girih file, a checkpoint (.gguf file or Hugging Face folder), or smollm2",
                  /*isRequired=*/false);
  line.text("--models", "FOLDER", flags.modelsFolder, "Instead of FILE: every .girih file of this folder, by its name, loaded when it is asked for and unloaded by least recent use");
  line.integer("--models-mib", flags.modelMegabytes, 0, int64_t{1} << 30, "Memory that the loaded models of --models may take, with their KV caches; 0: four fifths of this machine's");
  line.text("--host", "ADDRESS", flags.host, "Address to listen on; 0.0.0.0: every interface");
  line.integer("--port", flags.port, 0, 65535, "Port to listen on; 0: any free one");
  line.integer("--admin-port", flags.adminPort, -1, 65535, "Port of this machine alone for /ledger, /cache/clear and /metrics, without a key; 0: any free one; -1: none");
  line.text("--api-key", "K", flags.apiKey, "Ask every client for this key (all routes but /health, /live and /ready)");
  line.text("--api-key-file", "FILE", flags.apiKeyFile, "Keys, a line each: KEY [name=NAME] [priority=N] [weight=N]");
  line.flag("--share-prefixes", flags.sharePrefixes, "Let clients with different keys find each other's cached prompts; timing then tells what others asked");
  line.text("--allow-host", "NAMES", flags.allowedHosts, "Names that clients may call this server by, with commas; *: any. Addresses and localhost always may");
  line.text("--cors-origin", "ORIGINS", flags.allowedOrigins, "Pages whose scripts may ask (https://example.org), with commas; *: any");
  line.text("--model-name", "NAME", flags.modelName, "What clients may call the model, besides its own name");
  line.integer("--max-sequences", flags.maxSequences, 1, 4096, "Sequences that may share a step");
  line.integer("--max-queued", flags.maxQueued, 0, 1 << 20, "Requests that may wait for a place; more are answered with 429");
  line.integer("--max-queued-tokens", flags.maxQueuedTokens, 0, int64_t{1} << 40, "Prompt tokens that may wait; requests beyond are answered with 429; 0: no bound");
  line.integer("--request-timeout", flags.requestTimeoutSeconds, 0, 1 << 24, "Seconds that one request may take; 0: no bound");
  line.number("--max-slowdown", flags.maxSlowdown, 0, 1000, "A step with prompts in it may take so many times one of its streams alone (default: 2.5); 0: no bound");
  line.choice("--log", flags.logFormat, {"none", "json"}, "A line on stderr for each generation: who, how many tokens, how long; never what was said");
  line.flag("--vllm-metric-names", flags.vllmMetricNames, "Give /metrics under vLLM's names too");
  line.integer("--kv-mib", flags.kvMegabytes, 0, 1 << 24, "Memory of the KV cache in MiB; 0: 4 full contexts, at most 1 GiB");
  line.text("--cache-dir", "FOLDER", flags.kvFolder, "Where the KV of long prompts is kept between runs; none: nowhere (default: kv/ in girih's cache folder)");
  line.integer("--cache-days", flags.kvFolderDays, 1, 365, "Days that KV which is not used again stays there, where no request names a time");
  line.text("--state-dir", "FOLDER", flags.stateFolder, "Where responses, named prompts, files, batches, the ledger and the secret that seals what is kept on disk lie; none: nowhere, and no KV on disk (default: ~/.local/state/girih)");
  line.integer("--cache-mib", flags.kvFolderMegabytes, 1, 1 << 30, "Most MiB in that folder, for each program and variant");
  flags.execution.declare(line);
  flags.execution.declareDrafts(line, engine::kMaxDraft);
  line.examples("Examples:\n"
                "  girih serve smollm2\n"
                "  girih serve --models ~/models --models-mib 16384\n"
                "  girih serve model.girih --host 0.0.0.0 --port 9000 --api-key \"$KEY\"\n\n"
                "Routes: /v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings, /v1/files, /v1/batches, /v1/models; /v1/messages[/count_tokens] as Anthropic's clients\n"
                "ask; /tokenize, /detokenize, /apply-template, /tokenizer_info; /health, /live, /ready, /metrics, /openapi.json, /docs.\n"
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

// The folder that was asked for, or the usual one; empty: none. Fails where no usual one is known.
Expected<std::string> chosenStateFolder(const ServeFlags &flags) {
  if (flags.stateFolder.empty())
    return stateFolder();
  return flags.stateFolder == "none" ? std::string() : flags.stateFolder;
}

// Never unsealed: without the secret of this installation there is no tier on disk.
Status sealCache(engine::EngineOptions &options, const ServeFlags &flags) {
  if (options.cacheFolder.empty())
    return {};
  GIRIH_ASSIGN(std::string folder, chosenStateFolder(flags));
  if (folder.empty()) {
    options.cacheFolder.clear();
    return {};
  }
  std::error_code ignored; // the secret's file says what is wrong
  std::filesystem::create_directories(folder, ignored);
  GIRIH_ASSIGN(options.cacheCipher, server::Sealer::ofFolder(folder));
  return {};
}

Expected<engine::EngineOptions> engineOptionsOf(const ServeFlags &flags) {
  GIRIH_ASSIGN(auto options, flags.execution.engineOptions());
  options.maxSequences = static_cast<uint32_t>(flags.maxSequences);
  options.maxQueued = static_cast<uint32_t>(flags.maxQueued);
  options.maxQueuedTokens = static_cast<uint64_t>(flags.maxQueuedTokens);
  options.maxSlowdown = flags.maxSlowdown.value_or(options.maxSlowdown);
  options.kvBytes = static_cast<uint64_t>(flags.kvMegabytes) << 20;
  options.cacheFolder = flags.kvFolder;
  if (auto cache = cacheFolder(); flags.kvFolder.empty() && cache.isOk())
    options.cacheFolder = *cache + "/kv";
  else if (flags.kvFolder == "none")
    options.cacheFolder.clear();
  options.cacheFolderBytes = static_cast<uint64_t>(flags.kvFolderMegabytes) << 20;
  options.cacheFolderSeconds = static_cast<uint32_t>(flags.kvFolderDays) * 24 * 3600;
  if (Status status = sealCache(options, flags); !status.isOk()) {
    std::cerr << "warning: prompts are not kept on disk: " << status.message() << '\n';
    options.cacheFolder.clear();
  }
  return options;
}

std::vector<std::string> splitAtCommas(const std::string &text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');)
    if (!part.empty())
      parts.push_back(part);
  return parts;
}

Expected<server::ServiceOptions> prepareService(const ServeFlags &flags) {
  server::ServiceOptions options;
  if (!flags.apiKey.empty() && !flags.apiKeyFile.empty())
    return invalidArgument("--api-key and --api-key-file are both given; put all keys into the file");
  if (!flags.apiKey.empty())
    options.keys = server::ApiKeys::ofOne(flags.apiKey);
  if (!flags.apiKeyFile.empty()) {
    GIRIH_ASSIGN(std::string text, readTextFile(flags.apiKeyFile));
    auto keys = server::ApiKeys::parse(text, flags.sharePrefixes);
    if (!keys.isOk())
      return std::move(keys).status().withContext(flags.apiKeyFile);
    options.keys = std::move(keys).value();
  }
  options.maxActiveRequests = static_cast<size_t>(flags.maxSequences + flags.maxQueued);
  options.maxQueuedTokens = static_cast<uint64_t>(flags.maxQueuedTokens);
  options.requestTimeout = std::chrono::seconds(flags.requestTimeoutSeconds);
  GIRIH_ASSIGN(std::string stateFolder, chosenStateFolder(flags));
  if (!stateFolder.empty()) {
    auto state = server::StateFolder::open(stateFolder);
    if (state.isOk())
      options.state = std::move(state).value();
    else
      std::cerr << "warning: responses are not kept between runs: " << state.status().message() << '\n';
  }
  options.allowedHosts = splitAtCommas(flags.allowedHosts);
  options.allowedOrigins = splitAtCommas(flags.allowedOrigins);
  // Who listens beyond this machine is reached by names that only its owner knows.
  if (flags.host != "127.0.0.1" && flags.host != "localhost" && flags.host != "::1" && options.allowedHosts.empty())
    options.allowedHosts = {"*"};
  options.logFile = flags.logFormat == "json" ? stderr : nullptr;
  options.vllmMetricNames = flags.vllmMetricNames;
  return options;
}

std::string linesToPaste(const ServeFlags &flags, uint16_t port, const std::string &name) {
  std::string host = flags.host == "0.0.0.0" ? "127.0.0.1" : flags.host;
  if (host.find(':') != std::string::npos)
    host = "[" + host + "]";
  std::string url = "http://" + host + ":" + std::to_string(port);
  bool hasKey = !flags.apiKey.empty() || !flags.apiKeyFile.empty();
  std::string key = hasKey ? " -H \"Authorization: Bearer $KEY\"" : "", model = "{\"model\":\"" + name + "\",";
  return "listening on " + url + (hasKey ? ", with a key" : "") + "\n\n" +
         "  curl " + url + "/v1/models" + key + "\n" +
         "  curl " + url + "/v1/chat/completions" + key + " --json '" + model + "\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]}'\n" +
         "  curl " + url + "/v1/completions" + key + " --json '" + model + "\"prompt\":\"Once upon a time\",\"max_tokens\":32,\"stream\":true}'\n";
}

// One screen: what runs, and three lines that can be pasted.
void greet(const LoadedModel &model, server::Service &service, const ServeFlags &flags, uint16_t port) {
  const engine::Engine &engine = service.engine();
  const program::Model &facts = model.program->model();
  std::string name = service.model().names.front();
  engine::EngineStats stats = engine.stats();
  std::cout << name << " (" << facts.architecture << ", " << facts.numerics << ") on " << engine.executable().isa << ", "
            << engine.numThreads() << " threads\n"
            << "context " << engine.contextTokens() << " tokens, " << flags.maxSequences << " sequences a step, KV cache "
            << (stats.numKvBlocks * facts.kvBlockBytes >> 20) << " MiB (" << facts.kvType << ", " << stats.numKvBlocks << " blocks)\n"
            << (stats.disk.numFiles > 0 ? "found " + std::to_string(stats.disk.numBytes >> 20) + " MiB of KV on disk\n" : "")
            << linesToPaste(flags, port, name) << std::endl;
}

// The same of a folder: what there is, and how much of it at a time.
void greetWithFolder(const std::vector<FolderProgram> &programs, uint64_t memoryBytes, const ServeFlags &flags, uint16_t port) {
  std::cout << programs.size() << " models of " << flags.modelsFolder << ", loaded when they are asked for, at most " << (memoryBytes >> 20)
            << " MiB at a time\n";
  for (const FolderProgram &program : programs)
    std::cout << "  " << program.model.name << ": context " << program.model.contextTokens << " tokens, " << (program.model.numBytes >> 20)
              << " MiB with its KV cache" << (program.model.numBytes > memoryBytes ? ", which is more than that: it is loaded alone" : "") << "\n";
  std::cout << linesToPaste(flags, port, programs.front().model.name) << std::endl;
}

// Until it is drained. `greet` is told the port.
Status runServers(const ServeFlags &flags, server::HttpHandlers handlers, server::HttpHandlers adminHandlers,
                  const std::function<void(uint16_t port)> &greet, const std::function<void()> &shutDown) {
  server::HttpServerOptions httpOptions;
  httpOptions.host = flags.host;
  httpOptions.port = static_cast<uint16_t>(flags.port);
  httpOptions.drainOnSignals = true;
  httpOptions.limits.maxUploadBytes = server::kMaxUploadBytes;
  GIRIH_ASSIGN(auto httpServer, server::HttpServer::create(httpOptions, std::move(handlers)));
  std::unique_ptr<server::HttpServer> adminServer;
  if (flags.adminPort >= 0) {
    server::HttpServerOptions adminOptions;
    adminOptions.port = static_cast<uint16_t>(flags.adminPort);
    GIRIH_ASSIGN(adminServer, server::HttpServer::create(adminOptions, std::move(adminHandlers)));
  }
  greet(httpServer->port());
  if (adminServer)
    std::cout << "for this machine alone: http://127.0.0.1:" << adminServer->port() << "/ledger\n" << std::endl;
  std::thread adminThread([&] {
    if (adminServer)
      adminServer->run();
  });
  httpServer->run();
  if (adminServer)
    adminServer->stop();
  adminThread.join();
  // Before the server goes: the service's threads may still be answering.
  shutDown();
  std::cerr << "girih serve: ended\n";
  return {};
}

Status serveFile(const ServeFlags &flags) {
  GIRIH_ASSIGN(LoadedModel model, loadModel(flags.file, /*needsText=*/true));
  GIRIH_ASSIGN(auto options, engineOptionsOf(flags));
  GIRIH_ASSIGN(auto served, serveModel(model, servedNames(model, flags), options));
  GIRIH_ASSIGN(server::ServiceOptions serviceOptions, prepareService(flags));
  server::Service service(std::move(served), serviceOptions);
  return runServers(
      flags, server::makeHandlers(service), server::makeAdminHandlers(service),
      [&](uint16_t port) { greet(model, service, flags, port); }, [&] { service.shutDown(); });
}

Status serveFolder(const ServeFlags &flags) {
  if (!flags.modelName.empty())
    return invalidArgument("--model-name names one model, --models has several: rename the files");
  if (!flags.execution.draft.empty())
    return invalidArgument(
        "--draft guesses for one model, --models has several: serve the file that it is for");
  GIRIH_ASSIGN(auto engineOptions, engineOptionsOf(flags));
  GIRIH_ASSIGN(auto programs, programsOf(flags.modelsFolder, engineOptions));
  server::FleetOptions options;
  GIRIH_ASSIGN(options.service, prepareService(flags));
  options.memoryBytes = flags.modelMegabytes > 0 ? static_cast<uint64_t>(flags.modelMegabytes) << 20 : usualModelBytes();
  std::vector<server::FleetModel> models;
  std::map<std::string, std::string> paths;
  for (const FolderProgram &program : programs) {
    models.push_back(program.model);
    paths[program.model.name] = program.path;
  }
  auto load = [&](const server::FleetModel &wanted) -> Expected<server::ServedModel> {
    GIRIH_ASSIGN(LoadedModel model, loadModel(paths.at(wanted.name), /*needsText=*/true));
    return serveModel(model, {wanted.name}, engineOptions);
  };
  server::ModelFleet fleet(std::move(models), load, options);
  return runServers(
      flags, fleet.handlers(), fleet.adminHandlers(),
      [&](uint16_t port) { greetWithFolder(programs, options.memoryBytes, flags, port); }, [&] { fleet.shutDown(); });
}

}  // namespace

Expected<int> serveCommand(const Arguments &arguments) {
  ServeFlags flags;
  CommandLine line("serve", "Answers OpenAI and Anthropic clients over HTTP; concurrent requests share the model's steps.");
  declare(line, flags);
  if (auto exitStatus = line.parse(arguments))
    return *exitStatus;
  if (flags.file.empty() == flags.modelsFolder.empty()) {
    std::cerr << "girih serve: give one FILE to serve, or a folder of them with --models\n";
    return kExitUsage;
  }
  raiseDescriptorLimit();
  GIRIH_TRY(flags.file.empty() ? serveFolder(flags) : serveFile(flags));
  return 0;
}

}  // namespace girih::tools
