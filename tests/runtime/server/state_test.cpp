// SPDX-License-Identifier: Apache-2.0
// What a server keeps between runs: responses, named prompts; and that forgetting reaches the cache.
#include "runtime/server/state_folder.h"
#include "tests/runtime/server/endpoints_fixture.h"

#include <filesystem>
#include <fstream>

namespace girih::server {
namespace {

namespace fs = std::filesystem;

class StateTest : public EndpointsTest {
protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "girih-state-XXXXXX";
    folder = mkdtemp(pattern.data());
    restart();
  }
  void TearDown() override {
    service.reset();
    fs::remove_all(folder);
  }
  // As another process: nothing but the folder is left.
  void restart(std::string keys = "", std::string programId = "one") {
    service.reset();
    ServiceOptions options;
    if (!keys.empty())
      options.keys = ApiKeys::parse(keys, false).value();
    options.state = StateFolder::open(folder).value();
    FakeEngineOptions engineOptions;
    engineOptions.says = "Hello there.";
    engineOptions.contextTokens = 4096;
    ServedModel model = fakeModel(engineOptions);
    model.programId = programId;
    service = std::make_unique<Service>(std::move(model), options);
    handlers = makeHandlers(*service);
  }
  FakeEngine &engine() { return static_cast<FakeEngine &>(service->engine()); }
  std::string respond(std::string fields, std::string key = "") {
    HttpResponse response = answer("POST", "/v1/responses", "{" + fields + "}", key);
    EXPECT_EQ(response.status, 200) << response.body;
    return response.body;
  }
  static std::string plain(std::string quoted) { return quoted.substr(1, quoted.size() - 2); }
  size_t numFiles(const std::string &part) const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder + "/" + part), {}));
  }

  std::string folder;
};

TEST_F(StateTest, IsHeldByOneServerAtATime) {
  auto second = StateFolder::open(folder);
  ASSERT_FALSE(second.isOk());
  EXPECT_THAT(std::string(second.status().message()), ::testing::HasSubstr("--state-dir"));
  service.reset();
  EXPECT_TRUE(StateFolder::open(folder).isOk());
}

TEST_F(StateTest, ResponsesOutliveTheServer) {
  restart("one name=a\ntwo\n");
  std::string first = respond(R"("input":"secret words")", "one");
  std::string path = "/v1/responses/" + plain(at(first, "id"));
  for (const auto &entry : fs::directory_iterator(folder + "/responses")) {
    std::ifstream file(entry.path(), std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(file), {}};
    EXPECT_EQ(bytes.find("secret words"), bytes.npos) << "sealed";
  }
  // Keys in another order, one of them new: a response belongs to who asked.
  restart("three\ntwo\none name=a\n");
  EXPECT_EQ(answer("GET", path, "", "one").body, first);
  EXPECT_EQ(answer("GET", path, "", "two").status, 404);
  EXPECT_EQ(answer("GET", path, "", "three").status, 404);
  std::string second = respond(R"("input":"and?","previous_response_id":)" + at(first, "id"), "one");
  std::string conversation = "user: secret words\nassistant: Hello there.\nuser: and?\n";
  EXPECT_EQ(at(second, "usage.input_tokens"), std::to_string(conversation.size()));
  std::string item = R"("input":[{"type":"item_reference","id":)" + at(first, "output.0.id") + "}]";
  restart("three\n");
  EXPECT_EQ(answer("GET", path, "", "three").status, 404);
  restart("one name=a\n", "another program");
  EXPECT_EQ(answer("GET", path, "", "one").body, first);
  respond(item, "one");
  EXPECT_EQ(answer("DELETE", path, "", "one").status, 200);
  EXPECT_EQ(numFiles("responses"), 2u);
  restart("one name=a\n");
  EXPECT_EQ(answer("GET", path, "", "one").status, 404) << "deleted is deleted";
}

TEST_F(StateTest, DamagedAndForeignFilesAreNoResponses) {
  std::string first = respond(R"("input":"hi")");
  std::string id = plain(at(first, "id")), name = folder + "/responses/" + id + ".response";
  fs::copy_file(name, folder + "/responses/resp_other.response");
  std::ofstream(folder + "/responses/resp_x.response") << "{}";
  restart();
  EXPECT_EQ(numFiles("responses"), 1u) << "a file under another's name does not open";
  EXPECT_EQ(answer("GET", "/v1/responses/resp_other").status, 404);
  EXPECT_EQ(answer("GET", "/v1/responses/" + id).status, 200);
  fs::resize_file(name, fs::file_size(name) - 1);
  restart();
  EXPECT_EQ(answer("GET", "/v1/responses/" + id).status, 404);
}

TEST_F(StateTest, StoreFalseLeavesNothingOnDisk) {
  respond(R"("input":"hi","store":false)");
  EXPECT_EQ(fs::exists(folder + "/responses") ? numFiles("responses") : 0, 0u);
  EXPECT_FALSE(engine().submitted.back().keepOnDisk);
  respond(R"("input":"hi")");
  EXPECT_TRUE(engine().submitted.back().keepOnDisk);
  for (std::string fields : {R"("store":false)", R"("prompt_cache_retention":"in_memory")",
                             R"("prompt_cache_retention":"24h","store":false)"}) {
    answer("POST", "/v1/chat/completions", chatBody(fields));
    EXPECT_FALSE(engine().submitted.back().keepOnDisk) << fields;
  }
  answer("POST", "/v1/chat/completions", chatBody(R"("prompt_cache_retention":"24h","store":true)"));
  EXPECT_TRUE(engine().submitted.back().keepOnDisk);
  EXPECT_EQ(engine().submitted.back().keepSeconds, 24u * 3600);
}

TEST_F(StateTest, DeletingForgetsWhatNoOtherResponseBeginsWith) {
  restart("one\ntwo\n");
  std::string first = respond(R"("input":"hi","cache_salt":"s")", "one");
  std::string second =
      respond(R"("input":"and?","cache_salt":"s","previous_response_id":)" + at(first, "id"), "one");
  std::string firstText = "user: hi\nassistant: Hello there.\n";
  auto remove = [&](const std::string &body) {
    EXPECT_EQ(answer("DELETE", "/v1/responses/" + plain(at(body, "id")), "", "one").status, 200);
    return engine().forgotten.back();
  };
  auto [evaluated, numKept] = remove(second);
  std::string text(evaluated.promptTokens.begin(), evaluated.promptTokens.end());
  EXPECT_EQ(text, firstText + "user: and?\nHello there.");
  EXPECT_EQ(evaluated.cacheSalt, service->options().keys.find("one")->salt + "s");
  EXPECT_EQ(numKept, std::string("user: hi\n").size()) << "what was evaluated of the first one";
  EXPECT_EQ(remove(first).second, 0u);
  EXPECT_EQ(engine().forgotten.size(), 2u);
}

TEST_F(StateTest, NamedPromptsAreSharedByAllAndReadWhenAskedFor) {
  fs::create_directories(folder + "/prompts");
  std::string text = "You are the clerk of a very small shop.";
  std::ofstream(folder + "/prompts/clerk.prompt") << text;
  restart("one\ntwo\n");
  std::string system = "system: " + text + "\n";
  ASSERT_EQ(engine().submitted.size(), 1u) << "warmed at the start";
  EXPECT_EQ(engine().submitted[0].maxTokens, 0u);
  EXPECT_EQ(engine().submitted[0].promptTokens.size(), system.size());
  EXPECT_EQ(engine().submitted[0].numSharedTokens, system.size());
  for (std::string key : {"one", "two"}) {
    std::string body = respond(R"("input":"hi","prompt":{"id":"clerk"})", key);
    EXPECT_EQ(at(body, "usage.input_tokens"), std::to_string((system + "user: hi\n").size()));
    EXPECT_EQ(engine().submitted.back().numSharedTokens, system.size());
    EXPECT_EQ(engine().submitted.back().sharedSalt, engine().submitted[0].sharedSalt);
  }
  respond(R"("input":"hi","instructions":"Be brief.","prompt":{"id":"clerk"})", "one");
  EXPECT_EQ(engine().submitted.back().numSharedTokens, system.size()) << "instructions follow it";
  size_t numSubmitted = engine().submitted.size();
  std::ofstream(folder + "/prompts/clerk.prompt") << "Another text.";
  respond(R"("input":"hi","prompt":{"id":"clerk"})", "one");
  EXPECT_EQ(engine().submitted.size(), numSubmitted + 2) << "warmed again, and asked";
  EXPECT_NE(engine().submitted.back().sharedSalt, engine().submitted[0].sharedSalt);
  fs::remove(folder + "/prompts/clerk.prompt");
  EXPECT_EQ(answer("POST", "/v1/responses", R"({"input":"x","prompt":{"id":"clerk"}})", "one").status, 404);
}

} // namespace
} // namespace girih::server
