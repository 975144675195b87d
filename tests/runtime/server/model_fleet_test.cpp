// SPDX-License-Identifier: Apache-2.0
// Several models over FakeEngines: loaded when asked for, unloaded when idle, never while they answer, and not by turns.
#include "runtime/server/model_fleet.h"
#include "tests/runtime/server/endpoints_fixture.h"

#include <filesystem>
#include <set>
#include <sstream>

namespace girih::server {
namespace {

using ::testing::HasSubstr;

class ModelFleetTest : public ::testing::Test {
protected:
  struct Setup {
    size_t roomFor = 2; // models
    std::chrono::milliseconds leastStay{0};
    double leastStayPerLoad = 0;
    std::chrono::milliseconds loadTime{0};
    std::chrono::microseconds stepTime{50};
    size_t maxWaiting = 1000;
  };
  void TearDown() override {
    fleet.reset();
    if (!folder.empty())
      std::filesystem::remove_all(folder);
  }

  void start(const Setup &setup, ServiceOptions service = {}) {
    fleet.reset();
    std::vector<FleetModel> models;
    for (std::string name : {"a", "b", "c"})
      models.push_back({name, "program-" + name, 1700000000, 512, 100});
    FleetOptions options;
    options.service = std::move(service);
    options.memoryBytes = setup.roomFor * 100;
    options.leastStay = setup.leastStay;
    options.leastStayPerLoad = setup.leastStayPerLoad;
    options.maxWaiting = setup.maxWaiting;
    auto loader = [this, setup](const FleetModel &model) -> Expected<ServedModel> {
      std::this_thread::sleep_for(setup.loadTime);
      if (model.name == broken)
        return dataLoss("half of it is missing");
      FakeEngineOptions engine;
      engine.says = "I am " + model.name + ".";
      engine.stepTime = setup.stepTime;
      ServedModel served = fakeModel(engine);
      served.names = {model.name};
      served.programId = model.programId;
      return served;
    };
    fleet = std::make_unique<ModelFleet>(std::move(models), loader, std::move(options));
    handlers = fleet->handlers();
  }
  void startWithState() {
    if (folder.empty()) {
      std::string pattern = std::filesystem::temp_directory_path() / "girih-fleet-XXXXXX";
      folder = mkdtemp(pattern.data());
    }
    fleet.reset();
    ServiceOptions service;
    service.state = StateFolder::open(folder).value();
    start({.roomFor = 1}, std::move(service));
  }

  std::shared_ptr<FakeExchange> send(std::string method, std::string path, std::string body = "",
                                     std::string contentType = "") {
    HttpRequest request;
    request.method = std::move(method);
    request.path = std::move(path);
    request.body = std::move(body);
    request.contentType = std::move(contentType);
    request.requestId = "req_1";
    auto exchange = std::make_shared<FakeExchange>(request);
    if (auto refusal = handlers.screen(request))
      exchange->respond(std::move(*refusal));
    else
      handlers.handle(exchange);
    return exchange;
  }
  HttpResponse answer(std::string method, std::string path, std::string body = "",
                      std::string contentType = "") {
    auto exchange = send(std::move(method), std::move(path), std::move(body), std::move(contentType));
    EXPECT_TRUE(exchange->waitForEnd());
    return exchange->response;
  }
  static std::string completion(const std::string &model, const std::string &fields = "") {
    return R"({"model":")" + model + R"(","prompt":"hi")" + fields + "}";
  }
  std::string saidBy(const std::string &model) {
    return at(answer("POST", "/v1/completions", completion(model)).body, "choices.0.text");
  }
  void waitUntil(const std::function<bool()> &isSo) {
    for (int count = 0; count < 2000 && !isSo(); ++count)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(isSo());
  }

  std::string broken; // the model that cannot be loaded
  std::string folder;
  std::unique_ptr<ModelFleet> fleet;
  HttpHandlers handlers;
};

TEST_F(ModelFleetTest, EachIsLoadedWhenItIsAskedFor) {
  start({.roomFor = 3});
  EXPECT_FALSE(fleet->isLoaded("a"));
  EXPECT_EQ(saidBy("a"), "\"I am a.\"");
  EXPECT_EQ(saidBy("b"), "\"I am b.\"");
  EXPECT_EQ(saidBy("a"), "\"I am a.\"");
  EXPECT_TRUE(fleet->isLoaded("a") && fleet->isLoaded("b") && !fleet->isLoaded("c"));
  EXPECT_EQ(fleet->counts().numLoads, 2u);
  std::string body =
      answer("POST", "/v1/chat/completions", R"({"model":"c","messages":[{"role":"user","content":"hi"}]})")
          .body;
  EXPECT_EQ(at(body, "choices.0.message.content"), "\"I am c.\"");
  EXPECT_EQ(at(body, "model"), "\"c\"");
}

TEST_F(ModelFleetTest, ListsAllAndRefusesOthersByName) {
  start({});
  std::string list = answer("GET", "/v1/models").body;
  for (int index = 0; index < 3; ++index)
    EXPECT_EQ(at(list, "data." + std::to_string(index) + ".id"), std::string("\"") + "abc"[index] + "\"");
  EXPECT_EQ(at(answer("GET", "/v1/models/b").body, "max_model_len"), "512");
  EXPECT_EQ(answer("GET", "/v1/models/d").status, 404);
  HttpResponse unknown = answer("POST", "/v1/completions", completion("gpt-9"));
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(at(unknown.body, "error.code"), "\"model_not_found\"");
  EXPECT_THAT(unknown.body, HasSubstr("`a`, `b`, `c`"));
  HttpResponse missing = answer("POST", "/v1/completions", R"({"prompt":"hi"})");
  EXPECT_EQ(missing.status, 400);
  EXPECT_EQ(at(missing.body, "error.param"), "\"model\"");
  EXPECT_EQ(answer("POST", "/v1/completions", "no json").status, 400);
  EXPECT_EQ(answer("POST", "/v1/completions", R"({"model":3})").status, 400);
  EXPECT_EQ(answer("GET", "/health").status, 200);
  EXPECT_EQ(fleet->counts().numLoads, 0u) << "none of this needs a model";
}

TEST_F(ModelFleetTest, TheOneUsedLongestAgoGoes) {
  start({.roomFor = 2});
  saidBy("a");
  saidBy("b");
  saidBy("a");
  EXPECT_EQ(saidBy("c"), "\"I am c.\"");
  EXPECT_TRUE(fleet->isLoaded("a") && !fleet->isLoaded("b"));
  EXPECT_EQ(fleet->counts().numUnloads, 1u);
  EXPECT_EQ(fleet->counts().numBytes, 200u);
}

// The whole answer comes, and only then the other model.
TEST_F(ModelFleetTest, NoneIsUnloadedWhileItAnswers) {
  start({.roomFor = 1, .stepTime = std::chrono::milliseconds(5)});
  auto running =
      send("POST", "/v1/completions", completion("a", R"(,"max_tokens":60,"ignore_eos":true,"stream":true)"));
  running->waitForEvents(3);
  auto waiting = send("POST", "/v1/completions", completion("b"));
  running->waitForEvents(20);
  EXPECT_TRUE(fleet->isLoaded("a") && !fleet->isLoaded("b"));
  // Who comes now must not hold the other up: it waits until that had its turn.
  auto late = send("POST", "/v1/completions", completion("a"));
  ASSERT_TRUE(running->waitForEnd());
  EXPECT_EQ(running->events.back(), "[DONE]");
  running.reset();
  ASSERT_TRUE(waiting->waitForEnd());
  EXPECT_EQ(at(waiting->response.body, "choices.0.text"), "\"I am b.\"");
  waiting.reset();
  ASSERT_TRUE(late->waitForEnd());
  EXPECT_EQ(at(late->response.body, "choices.0.text"), "\"I am a.\"");
  EXPECT_EQ(fleet->counts().numLoads, 3u);
}

// Two that are asked for all the time, with room for one: both are answered, and they change seldom.
TEST_F(ModelFleetTest, TwoByTurnsDoNotThrash) {
  start({.roomFor = 1,
         .leastStay = std::chrono::milliseconds(100),
         .leastStayPerLoad = 20,
         .loadTime = std::chrono::milliseconds(5)});
  std::atomic<bool> isOver = false;
  std::array<std::atomic<int>, 2> numAnswered{};
  std::vector<std::thread> clients;
  for (size_t model = 0; model < 2; ++model)
    for (int client = 0; client < 3; ++client)
      clients.emplace_back([&, model] {
        while (!isOver) {
          EXPECT_EQ(saidBy(model ? "b" : "a"), model ? "\"I am b.\"" : "\"I am a.\"");
          ++numAnswered[model];
        }
      });
  auto begin = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  isOver = true;
  for (std::thread &client : clients)
    client.join();
  std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  EXPECT_GT(numAnswered[0], 20);
  EXPECT_GT(numAnswered[1], 20);
  EXPECT_GE(fleet->counts().numLoads, 3u);
  EXPECT_LE(static_cast<double>(fleet->counts().numLoads), elapsed.count() / 0.1 + 2);
}

TEST_F(ModelFleetTest, AFileThatCannotBeLoadedIsSaidToWhoWaits) {
  start({});
  broken = "b";
  auto first = send("POST", "/v1/completions", completion("b")),
       second = send("POST", "/v1/completions", completion("b"));
  for (auto &exchange : {first, second}) {
    ASSERT_TRUE(exchange->waitForEnd());
    EXPECT_EQ(exchange->response.status, 500);
    EXPECT_THAT(exchange->response.body, HasSubstr("loading `b`: half of it is missing"));
  }
  EXPECT_EQ(saidBy("a"), "\"I am a.\"");
  broken.clear();
  EXPECT_EQ(saidBy("b"), "\"I am b.\"") << "asked again, it is tried again";
}

TEST_F(ModelFleetTest, BoundsWhoWaits) {
  start({.loadTime = std::chrono::milliseconds(200), .maxWaiting = 2});
  std::vector<std::shared_ptr<FakeExchange>> waiting = {send("POST", "/v1/completions", completion("a")),
                                                        send("POST", "/v1/completions", completion("a"))};
  EXPECT_EQ(answer("POST", "/v1/completions", completion("a")).status, 429);
  for (auto &exchange : waiting) {
    ASSERT_TRUE(exchange->waitForEnd());
    EXPECT_EQ(exchange->response.status, 200);
  }
  EXPECT_EQ(fleet->counts().numWaiting, 0u);
}

TEST_F(ModelFleetTest, EndsWithEverybodyAnswered) {
  start({.roomFor = 1, .loadTime = std::chrono::milliseconds(50), .stepTime = std::chrono::milliseconds(5)});
  auto running = send("POST", "/v1/completions", completion("a", R"(,"max_tokens":400,"ignore_eos":true)"));
  waitUntil([&] { return fleet->isLoaded("a"); });
  auto waiting = send("POST", "/v1/completions", completion("b"));
  fleet->shutDown();
  for (auto &exchange : {running, waiting}) {
    ASSERT_TRUE(exchange->waitForEnd());
    EXPECT_EQ(exchange->response.status, 503);
  }
  EXPECT_EQ(answer("POST", "/v1/completions", completion("a")).status, 503);
}

TEST_F(ModelFleetTest, MetersAndCountsInOnePlace) {
  start({.roomFor = 1});
  saidBy("a");
  saidBy("b");
  std::string metrics = answer("GET", "/metrics").body;
  EXPECT_THAT(metrics, HasSubstr("girih_model_loads_total 2\n"));
  EXPECT_THAT(metrics, HasSubstr("girih_model_loaded{model=\"a\"} 0\n"));
  EXPECT_THAT(metrics, HasSubstr("girih_model_loaded{model=\"b\"} 1\n"));
  EXPECT_THAT(metrics, HasSubstr("girih_http_requests_total{path=\"/v1/completions\",status=\"200\"} 2\n"));
  UsedInAll used = fleet->front().usedByClient().at(0).second;
  EXPECT_EQ(used[0].numRequests, 2u);
}

TEST_F(ModelFleetTest, EveryFigureOfAModelNamesIt) {
  ServiceOptions service;
  service.vllmMetricNames = true;
  start({.roomFor = 2}, std::move(service));
  saidBy("a");
  saidBy("b");
  saidBy("b");
  // An answer may be read before its engine has counted it.
  std::string metrics;
  waitUntil([&] {
    metrics = answer("GET", "/metrics").body;
    return metrics.find("girih_generations_total{model=\"b\",reason=\"stop\"} 2\n") != metrics.npos;
  });
  for (std::string row :
       {"girih_generations_total{model=\"a\",reason=\"stop\"} 1\n",
        "girih_generations_total{model=\"b\",reason=\"stop\"} 2\n",
        "girih_generations_total{model=\"c\",reason=\"stop\"} 0\n",
        "girih_request_seconds_count{model=\"b\"} 0\n",
        "girih_request_seconds_bucket{model=\"b\",le=\"+Inf\"} 0\n", "girih_requests_active{model=\"a\"} 0\n",
        "girih_disk_files{model=\"a\"} 0\n", "vllm:e2e_request_latency_seconds_count{model_name=\"b\"} 0\n"})
    EXPECT_THAT(metrics, HasSubstr(row));
  // Each family stands once, with its rows behind it, and what is no model's is the same few.
  std::istringstream lines(metrics);
  std::set<std::string> families, withoutModel;
  std::string family;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) {
      family = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(families.insert(family).second) << family;
    } else if (!line.starts_with("#")) {
      EXPECT_TRUE(line.starts_with(family)) << line;
      if (line.find("model=\"") == line.npos && line.find("model_name=\"") == line.npos)
        withoutModel.insert(family);
    }
  }
  EXPECT_THAT(withoutModel,
              ::testing::UnorderedElementsAre(
                  "girih_http_requests_total", "girih_model_loads_total", "girih_model_unloads_total",
                  "girih_model_load_failures_total", "girih_model_rejections_total", "girih_models_bytes",
                  "girih_client_tokens_total", "girih_client_retained_byte_seconds_total"));
}

// Files and batches are no model's; each line names its own.
TEST_F(ModelFleetTest, ABatchMayNameSeveral) {
  startWithState();
  std::string lines;
  for (int number = 0; number < 20; ++number)
    lines += R"({"custom_id":")" + std::to_string(number) +
             R"(","method":"POST","url":"/v1/completions","body":)" + completion(number % 2 ? "a" : "b") +
             "}\n";
  lines +=
      R"({"custom_id":"x","method":"POST","url":"/v1/completions","body":)" + completion("nobody") + "}\n";
  std::string form = "--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
                     "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"in\"\r\n\r\n" +
                     lines + "\r\n--x--\r\n";
  std::string file = at(answer("POST", "/v1/files", form, "multipart/form-data; boundary=x").body, "id");
  std::string batch =
      answer("POST", "/v1/batches",
             R"({"input_file_id":)" + file + R"(,"endpoint":"/v1/completions","completion_window":"24h"})")
          .body;
  std::string id = at(batch, "id");
  std::string path = "/v1/batches/" + id.substr(1, id.size() - 2);
  waitUntil([&] { return at(batch = answer("GET", path).body, "status") == "\"completed\""; });
  EXPECT_EQ(at(batch, "request_counts"), R"({"total":21,"completed":20,"failed":1})") << batch;
  std::string output = at(batch, "output_file_id");
  std::string answers = answer("GET", "/v1/files/" + output.substr(1, output.size() - 2) + "/content").body;
  std::istringstream stream(answers);
  int numLines = 0;
  for (std::string line; std::getline(stream, line); ++numLines) {
    std::string number = at(line, "custom_id");
    bool isOfA = (number[number.size() - 2] - '0') % 2;
    EXPECT_EQ(at(line, "response.body.choices.0.text"), isOfA ? "\"I am a.\"" : "\"I am b.\"");
  }
  EXPECT_EQ(numLines, 20);
}

// A conversation goes on with any model, with the other's words and not its tokens; what is deleted is forgotten by
// the model that computed it.
TEST_F(ModelFleetTest, ResponsesAreNoModelsOwn) {
  startWithState();
  std::string first = answer("POST", "/v1/responses", R"({"model":"a","input":"hi"})").body;
  std::string id = at(first, "id");
  std::string second =
      answer("POST", "/v1/responses", R"({"model":"b","input":"and?","previous_response_id":)" + id + "}")
          .body;
  EXPECT_EQ(at(second, "output.0.content.0.text"), "\"I am b.\"") << second;
  startWithState(); // in the next process too
  std::string path = "/v1/responses/" + id.substr(1, id.size() - 2);
  EXPECT_EQ(answer("GET", path).status, 200);
  EXPECT_FALSE(fleet->isLoaded("a"));
  EXPECT_EQ(at(answer("DELETE", path).body, "deleted"), "true");
  EXPECT_TRUE(fleet->isLoaded("a"));
  EXPECT_EQ(answer("GET", path).status, 404);
  EXPECT_EQ(answer("DELETE", path).status, 404);
}

} // namespace
} // namespace girih::server
