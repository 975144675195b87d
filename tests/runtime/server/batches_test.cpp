// SPDX-License-Identifier: Apache-2.0
// /v1/files and /v1/batches over a FakeEngine: states, faults, restarts in the middle; and the ledger of what they used.
#include "runtime/server/batch_runner.h"
#include "runtime/server/multipart.h"
#include "runtime/server/state_folder.h"
#include "tests/runtime/server/endpoints_fixture.h"

#include <filesystem>
#include <fstream>

namespace girih::server {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class BatchesTest : public EndpointsTest {
protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "girih-batches-XXXXXX";
    folder = mkdtemp(pattern.data());
    restart();
  }
  void TearDown() override {
    service.reset();
    fs::remove_all(folder);
  }
  void restart(std::chrono::microseconds stepTime = std::chrono::microseconds(50)) {
    service.reset();
    ServiceOptions options;
    options.keys = ApiKeys::parse("one name=a\ntwo name=b\n", false).value();
    options.state = StateFolder::open(folder).value();
    FakeEngineOptions engineOptions;
    engineOptions.says = "Hello.";
    engineOptions.stepTime = stepTime;
    service = std::make_unique<Service>(fakeModel(engineOptions), options);
    handlers = makeHandlers(*service);
  }
  static std::string plain(std::string quoted) { return quoted.substr(1, quoted.size() - 2); }
  HttpResponse upload(const std::string &content, std::string key = "one", std::string purpose = "batch") {
    HttpRequest request;
    request.method = "POST";
    request.path = "/v1/files";
    request.contentType = "multipart/form-data; boundary=\"x7\"";
    request.authorization = "Bearer " + key;
    request.body = "--x7\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n" + purpose +
                   "\r\n--x7\r\nContent-Disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n"
                   "Content-Type: application/octet-stream\r\n\r\n" +
                   content + "\r\n--x7--\r\n";
    auto exchange = std::make_shared<FakeExchange>(request);
    if (auto refusal = handlers.screen(request))
      exchange->respond(std::move(*refusal));
    else
      handlers.handle(exchange);
    EXPECT_TRUE(exchange->waitForEnd());
    return exchange->response;
  }
  static std::string line(std::string id, std::string fields = "", std::string url = "/v1/chat/completions") {
    return R"({"custom_id":")" + id + R"(","method":"POST","url":")" + url +
           R"(","body":{"messages":[{"role":"user","content":"hi )" + id + "\"}]" + fields + "}}\n";
  }
  std::string createBatch(const std::string &content) {
    HttpResponse file = upload(content);
    EXPECT_EQ(file.status, 200) << file.body;
    HttpResponse batch =
        answer("POST", "/v1/batches",
               R"({"input_file_id":)" + at(file.body, "id") +
                   R"(,"endpoint":"/v1/chat/completions","completion_window":"24h","metadata":{"a":"b"}})",
               "one");
    EXPECT_EQ(batch.status, 200) << batch.body;
    EXPECT_EQ(at(batch.body, "metadata.a"), "\"b\"");
    return "/v1/batches/" + plain(at(batch.body, "id"));
  }
  std::string waitFor(const std::string &path, std::string state) {
    std::string body;
    for (int count = 0; count < 1000; ++count) {
      body = answer("GET", path, "", "one").body;
      if (at(body, "status") == "\"" + state + "\"")
        return body;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "not " << state << ": " << body;
    return body;
  }
  std::vector<std::string> linesOf(const std::string &fileId) {
    HttpResponse content = answer("GET", "/v1/files/" + plain(fileId) + "/content", "", "one");
    EXPECT_EQ(content.status, 200) << content.body;
    std::vector<std::string> lines;
    std::istringstream stream(content.body);
    for (std::string text; std::getline(stream, text);)
      lines.push_back(text);
    return lines;
  }
  std::string folder;
};

TEST_F(BatchesTest, AnswersEveryLineInAFile) {
  std::string path =
      createBatch(line("a") + "\n" + line("b", ",\"max_tokens\":3") + line("c", ",\"max_tokens\":-1"));
  std::string batch = waitFor(path, "completed");
  EXPECT_EQ(at(batch, "request_counts"), R"({"total":3,"completed":2,"failed":1})");
  EXPECT_EQ(at(batch, "object"), "\"batch\"");
  for (std::string time : {"created_at", "in_progress_at", "finalizing_at", "completed_at"})
    EXPECT_NE(at(batch, time), "null") << time;
  EXPECT_EQ(at(batch, "failed_at"), "null");
  auto lines = linesOf(at(batch, "output_file_id"));
  ASSERT_EQ(lines.size(), 2u);
  for (const std::string &text : lines) {
    std::string wanted = at(text, "custom_id") == "\"a\"" ? "\"Hello.\"" : "\"Hel\"";
    EXPECT_EQ(at(text, "response.status_code"), "200");
    EXPECT_EQ(at(text, "response.body.choices.0.message.content"), wanted);
    EXPECT_EQ(at(text, "error"), "null");
  }
  lines = linesOf(at(batch, "error_file_id"));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(at(lines[0], "custom_id"), "\"c\"");
  EXPECT_EQ(at(lines[0], "response.body.error.param"), "\"max_tokens\"");
  EXPECT_EQ(at(answer("GET", "/v1/batches", "", "one").body, "data.0.id"), at(batch, "id"));
  EXPECT_EQ(at(answer("GET", "/v1/files", "", "one").body, "data.2.filename"), "\"in.jsonl\"");
}

// Within one second too, and as the next process tells it.
TEST_F(BatchesTest, AreListedTheNewestFirst) {
  std::vector<std::string> ids;
  for (int count = 0; count < 6; ++count)
    ids.insert(ids.begin(), createBatch(line("a")).substr(std::string("/v1/batches/").size()));
  auto listed = [&] {
    std::vector<std::string> found;
    std::string body = answer("GET", "/v1/batches", "", "one").body;
    for (size_t index = 0; index < ids.size(); ++index)
      found.push_back(plain(at(body, "data." + std::to_string(index) + ".id")));
    return found;
  };
  EXPECT_EQ(listed(), ids);
  restart();
  EXPECT_EQ(listed(), ids);
}

TEST_F(BatchesTest, BelongsToOneKey) {
  std::string path = createBatch(line("a"));
  std::string batch = waitFor(path, "completed");
  EXPECT_EQ(answer("GET", path, "", "two").status, 404);
  EXPECT_EQ(answer("POST", path + "/cancel", "", "two").status, 404);
  std::string file = "/v1/files/" + plain(at(batch, "output_file_id"));
  for (std::string method : {"GET", "DELETE"})
    EXPECT_EQ(answer(method, file, "", "two").status, 404);
  EXPECT_EQ(answer("GET", file + "/content", "", "two").status, 404);
  EXPECT_EQ(at(answer("GET", "/v1/files", "", "two").body, "data"), "[]");
  EXPECT_EQ(at(answer("GET", "/v1/batches", "", "two").body, "data"), "[]");
  EXPECT_EQ(answer("POST", "/v1/batches",
                   R"({"input_file_id":)" + at(batch, "input_file_id") +
                       R"(,"endpoint":"/v1/chat/completions","completion_window":"24h"})",
                   "two")
                .status,
            400);
  EXPECT_EQ(at(answer("DELETE", file, "", "one").body, "deleted"), "true");
  EXPECT_EQ(answer("GET", file + "/content", "", "one").status, 404);
}

TEST_F(BatchesTest, RefusesAFileWithItsLines) {
  std::string path = createBatch(line("a") + "no json\n" + line("a") + line("d", "", "/v1/completions") +
                                 line("e", ",\"stream\":true") + R"({"custom_id":"f"})");
  std::string batch = waitFor(path, "failed");
  EXPECT_EQ(at(batch, "errors.data.0.line"), "2");
  EXPECT_EQ(at(batch, "errors.data.0.code"), "\"invalid_json_line\"");
  EXPECT_EQ(at(batch, "errors.data.1.code"), "\"mismatched_url\"");
  EXPECT_EQ(at(batch, "errors.data.2.line"), "5");
  EXPECT_THAT(batch, HasSubstr("stands there twice"));
  EXPECT_EQ(at(waitFor(createBatch("\n\n"), "failed"), "errors.data.0.code"), "\"empty_file\"");
  std::string many;
  for (size_t count = 0; count <= kMaxBatchRequests; ++count)
    many += R"({"custom_id":")" + std::to_string(count) +
            R"(","method":"POST","url":"/v1/chat/completions","body":{}})" + "\n";
  EXPECT_EQ(at(waitFor(createBatch(many), "failed"), "errors.data.0.code"), "\"too_many_requests\"");
  const std::pair<std::string, std::string> kRefusals[] = {
      {R"({"endpoint":"/v1/chat/completions","completion_window":"24h"})", "input_file_id"},
      {R"({"input_file_id":"x","endpoint":"/v1/files","completion_window":"24h"})", "endpoint"},
      {R"({"input_file_id":"x","endpoint":"/v1/completions","completion_window":"1h"})", "completion_window"},
      {R"({"input_file_id":"x","endpoint":"/v1/completions","completion_window":"24h","metadata":7})",
       "metadata"},
      {R"({"input_file_id":"../secret","endpoint":"/v1/completions","completion_window":"24h"})",
       "input_file_id"},
  };
  for (const auto &[body, field] : kRefusals) {
    HttpResponse response = answer("POST", "/v1/batches", body, "one");
    EXPECT_EQ(response.status, 400) << body;
    EXPECT_EQ(at(response.body, "error.param"), "\"" + field + "\"") << body;
  }
  EXPECT_EQ(upload("x", "one", "fine-tune").status, 400);
  EXPECT_EQ(upload("").status, 400);
  EXPECT_EQ(upload("x", "wrong key").status, 401);
}

// Ended in the middle, again and again: every line is answered once.
TEST_F(BatchesTest, ARestartNeitherLosesNorRepeats) {
  std::string content;
  std::set<std::string> wanted;
  for (int number = 0; number < 200; ++number) {
    content += line("id-" + std::to_string(number), number % 10 == 0 ? ",\"max_tokens\":-1" : "");
    wanted.insert("\"id-" + std::to_string(number) + "\"");
  }
  restart(std::chrono::microseconds(2000));
  std::string path = createBatch(content);
  for (int round = 0; round < 6; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(15 + 10 * round));
    service.reset();
    // What a killed process leaves besides: half a line.
    for (const auto &entry : fs::directory_iterator(folder + "/batches"))
      if (entry.path().extension() == ".output" && round % 2)
        std::ofstream(entry.path(), std::ios::app) << R"({"id":"batch_req_x","custom_id":"id-7)";
    restart(std::chrono::microseconds(round < 5 ? 2000 : 50));
  }
  std::string batch = waitFor(path, "completed");
  std::multiset<std::string> answered;
  for (std::string file : {"output_file_id", "error_file_id"})
    for (const std::string &text : linesOf(at(batch, file)))
      answered.insert(at(text, "custom_id"));
  EXPECT_EQ(answered.size(), 200u);
  EXPECT_EQ(std::set<std::string>(answered.begin(), answered.end()), wanted);
  EXPECT_EQ(at(batch, "request_counts"), R"({"total":200,"completed":180,"failed":20})");
  restart();
  EXPECT_EQ(waitFor(path, "completed"), batch) << "and stays so";
}

TEST_F(BatchesTest, CancellingKeepsWhatWasAnswered) {
  restart(std::chrono::microseconds(3000));
  std::string content;
  for (int number = 0; number < 500; ++number)
    content += line(std::to_string(number));
  std::string path = createBatch(content);
  while (at(answer("GET", path, "", "one").body, "request_counts.completed") == "0")
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  std::string body = answer("POST", path + "/cancel", "", "one").body;
  EXPECT_EQ(at(body, "status"), "\"cancelling\"");
  std::string batch = waitFor(path, "cancelled");
  std::string numCompleted = at(batch, "request_counts.completed");
  EXPECT_EQ(std::to_string(linesOf(at(batch, "output_file_id")).size()), numCompleted);
  EXPECT_LT(std::stoi(numCompleted), 500);
  EXPECT_EQ(at(answer("POST", path + "/cancel", "", "one").body, "status"), "\"cancelled\"");
}

TEST_F(BatchesTest, WhatIsNotAnsweredInTimeHasAnError) {
  restart(std::chrono::milliseconds(200)); // none of its requests is answered before the service ends
  std::string path = createBatch(line("a") + line("b"));
  service.reset();
  for (const auto &entry : fs::directory_iterator(folder + "/batches"))
    if (entry.path().extension() == ".batch") {
      std::ifstream in(entry.path());
      std::string text{std::istreambuf_iterator<char>(in), {}};
      size_t place = text.find("\"expires_at\":") + 13;
      std::ofstream(entry.path()) << text.substr(0, place) << 1000 << text.substr(text.find(',', place));
    }
  restart();
  std::string batch = waitFor(path, "expired");
  auto lines = linesOf(at(batch, "error_file_id"));
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(at(lines[0], "error.code"), "\"batch_expired\"");
}

TEST_F(BatchesTest, RunsBelowLiveTrafficAndOutsideItsBounds) {
  restart(std::chrono::microseconds(3000));
  std::string path = createBatch(line("a") + line("b"));
  for (int count = 0; count < 200 && static_cast<FakeEngine &>(service->engine()).stats().numRunning == 0;
       ++count)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  EXPECT_EQ(service->numActive, 0u);
  waitFor(path, "completed");
  auto submitted = static_cast<FakeEngine &>(service->engine()).submitted;
  ASSERT_EQ(submitted.size(), 2u);
  EXPECT_LT(submitted[0].priority, -100);
  EXPECT_TRUE(submitted[0].isBackground);
  EXPECT_FALSE(submitted[0].deadline.has_value());
  // And is metered apart, for its key.
  HttpHandlers admin = makeAdminHandlers(*service);
  HttpRequest request;
  request.method = "GET";
  request.path = "/ledger";
  auto exchange = std::make_shared<FakeExchange>(request);
  ASSERT_FALSE(admin.screen(request).has_value());
  admin.handle(exchange);
  const std::string &ledger = exchange->response.body;
  EXPECT_EQ(at(ledger, "clients.0.client"), "\"a\"");
  EXPECT_EQ(at(ledger, "clients.0.batch.requests"), "2");
  EXPECT_EQ(at(ledger, "clients.0.batch.output_tokens"), "12");
  EXPECT_EQ(at(ledger, "clients.0.live.requests"), "0");
  request.host = "evil.example";
  EXPECT_TRUE(admin.screen(request).has_value());
  answer("POST", "/v1/chat/completions", chatBody(""), "one");
  restart();
  std::string metrics = answer("GET", "/metrics", "", "one").body;
  EXPECT_THAT(metrics, HasSubstr("girih_client_tokens_total{client=\"a\",kind=\"batch_output\"} 12\n"));
  EXPECT_THAT(metrics, HasSubstr("girih_client_tokens_total{client=\"a\",kind=\"output\"} 6\n"));
  EXPECT_EQ(answer("GET", "/ledger", "", "one").status, 404) << "not on the port of all";
}

TEST(Multipart, ReadsFormsAsClientsSendThem) {
  std::string body =
      "preamble\r\n--b\r\ncontent-disposition: form-data; filename=\"a \\\"b\\\".txt\"; name=\"file\"\r\n"
      "X: y\r\n\r\nline\r\n--bogus\r\n\r\n--b\r\nContent-Disposition: form-data; name=plain\r\n\r\n\r\n--b--";
  // "--bogus" begins like the boundary but goes on.
  EXPECT_FALSE(readMultipart("multipart/form-data; boundary=b", body).isOk());
  body.replace(body.find("--bogus"), 7, "-- fine");
  auto parts = readMultipart("Multipart/Form-Data; charset=x; Boundary=b", body);
  ASSERT_TRUE(parts.isOk()) << parts.status().message();
  ASSERT_EQ(parts->size(), 2u);
  EXPECT_EQ((*parts)[0].name, "file");
  EXPECT_EQ((*parts)[0].fileName, "a \"b\".txt");
  EXPECT_EQ((*parts)[0].content, "line\r\n-- fine\r\n");
  EXPECT_EQ((*parts)[1].name, "plain");
  EXPECT_EQ((*parts)[1].content, "");
}

TEST(Multipart, RefusesWhatIsNone) {
  std::string good = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b--\r\n";
  ASSERT_TRUE(readMultipart("multipart/form-data; boundary=b", good).isOk());
  for (std::string type : {"", "application/json", "multipart/form-data",
                           "multipart/form-data; boundary=", "multipart/form-data; boundary=other"})
    EXPECT_FALSE(readMultipart(type, good).isOk()) << type;
  // Cut anywhere, it is a form that has no end.
  for (size_t size = 0; size + 4 < good.size(); ++size)
    EXPECT_FALSE(readMultipart("multipart/form-data; boundary=b", good.substr(0, size)).isOk()) << size;
  EXPECT_FALSE(readMultipart("multipart/form-data; boundary=b", "--b\r\n--b--").isOk());
  EXPECT_FALSE(readMultipart("multipart/form-data; boundary=b", "--b\r\nX: y\r\n\r\nx\r\n--b--").isOk())
      << "no name";
  std::string many;
  for (size_t count = 0; count <= kMaxFormParts; ++count)
    many += "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n";
  EXPECT_FALSE(readMultipart("multipart/form-data; boundary=b", many + "--b--").isOk());
}

} // namespace
} // namespace girih::server
