// SPDX-License-Identifier: Apache-2.0
// /openapi.json against the routes themselves, names with slashes, and what is refused with a reason.
#include "tests/runtime/server/endpoints_fixture.h"

namespace girih::server {
namespace {

using ::testing::HasSubstr;

class OpenApiTest : public EndpointsTest {};

// What each route needs at least.
std::string leastBody(std::string_view path) {
  std::string messages = R"("messages":[{"role":"user","content":"hi"}])";
  if (path == "/v1/completions")
    return R"("prompt":"x")";
  if (path == "/v1/messages")
    return messages + R"(,"max_tokens":1)";
  if (path == "/detokenize")
    return R"("tokens":[1])";
  return path == "/v1/responses" || path == "/v1/embeddings" ? R"("input":"x")" : messages;
}

TEST_F(OpenApiTest, ListsEveryRouteWithFieldsThatAreKnown) {
  std::string description = answer("GET", "/openapi.json").body;
  auto document = JsonDocument::parse(description);
  ASSERT_TRUE(document.isOk()) << description;
  EXPECT_EQ(at(description, "openapi"), "\"3.1.0\"");
  for (const Route &route : allRoutes()) {
    auto path = document->root().find("paths")->find(route.path);
    ASSERT_TRUE(path.has_value()) << route.path;
    // Files and batches need a folder, and are asked in their own test.
    if (route.method != "POST" || route.fields.empty() ||
        route.path == "/v1/files" || route.path == "/v1/batches")
      continue;
    std::string body = "{" + leastBody(route.path);
    auto properties = path->find("post")
                          ->find("requestBody")
                          ->find("content")
                          ->find("application/json")
                          ->find("schema")
                          ->find("properties");
    for (const JsonMember &property : properties->members())
      if (body.find("\"" + std::string(property.key) + "\"") == body.npos)
        body += ",\"" + std::string(property.key) + "\":null";
    HttpResponse response = answer("POST", std::string(route.path), body + "}");
    EXPECT_EQ(response.status, 200) << route.path << response.body;
    for (const auto &[name, text] : response.headers)
      EXPECT_NE(name, "x-girih-ignored") << route.path << " does not know " << text;
  }
}

TEST_F(OpenApiTest, ExamplesAreAnswered) {
  int numExamples = 0;
  for (const Route &route : allRoutes()) {
    if (route.example.empty())
      continue;
    HttpResponse response = answer("POST", std::string(route.path), std::string(route.example));
    EXPECT_EQ(response.status, 200) << route.path << response.body;
    EXPECT_EQ(std::string(route.example).find('\''), std::string::npos) << "it stands between quotes of a shell";
    ++numExamples;
  }
  EXPECT_GE(numExamples, 8);
}

TEST_F(OpenApiTest, ShowsEveryRouteOnOnePage) {
  HttpResponse response = answer("GET", "/docs");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.contentType, "text/html; charset=utf-8");
  std::map<std::string, std::string> headers(response.headers.begin(), response.headers.end());
  EXPECT_THAT(headers["content-security-policy"], HasSubstr("default-src 'none'"));
  for (const Route &route : allRoutes()) {
    std::string title = std::string(route.method) + " " + std::string(route.path);
    EXPECT_THAT(response.body, HasSubstr("<code>" + title + "</code></a>"));
    EXPECT_THAT(response.body, HasSubstr(title + "</h2>"));
  }
  // It asks for nothing, from here or elsewhere.
  for (std::string_view asking : {"<script", "<img", "<link", "src=", "@import", "url("})
    EXPECT_EQ(response.body.find(asking), std::string::npos) << asking;
  EXPECT_THAT(response.body, HasSubstr("content&quot;: &quot;Hello!&quot;"));
}

// What a client says of itself stands on the page.
TEST_F(OpenApiTest, ThePageQuotesHostsAsText) {
  auto request = HttpRequest();
  request.method = "GET";
  request.path = "/docs";
  request.host = "<script>\"&";
  auto exchange = std::make_shared<FakeExchange>(request);
  handlers.handle(exchange);
  ASSERT_TRUE(exchange->waitForEnd());
  EXPECT_EQ(exchange->response.body.find("<script>"), std::string::npos);
  EXPECT_THAT(exchange->response.body, HasSubstr("&lt;script&gt;&quot;&amp;"));
}

TEST_F(OpenApiTest, TakesNamesWithSlashes) {
  ServedModel model = fakeModel({});
  model.names = {"org/small model", "alias"};
  service = std::make_unique<Service>(std::move(model), ServiceOptions());
  handlers = makeHandlers(*service);
  for (std::string path : {"org/small model", "org%2Fsmall%20model", "org%2fsmall model", "alias"})
    EXPECT_EQ(answer("GET", "/v1/models/" + path).status, 200) << path;
  for (std::string path : {"org", "org%2", "org%2Gsmall", "%"})
    EXPECT_EQ(answer("GET", "/v1/models/" + path).status, 404) << path;
  EXPECT_EQ(at(answer("GET", "/v1/models").body, "data.1.id"), "\"alias\"");
}

} // namespace
} // namespace girih::server
