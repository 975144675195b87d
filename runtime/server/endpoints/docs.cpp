// SPDX-License-Identifier: Apache-2.0
// GET /docs: the table of routes as a page for people; one file, without scripts and without a request to anywhere.
#include "runtime/server/endpoints.h"

namespace girih::server {
namespace {

constexpr std::string_view kHead = R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>girih serve: routes</title>
<style>
:root { color-scheme: light dark; }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
h2 { margin-top: 2.5rem; font: 600 1.05rem/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
pre, code { font: .9rem/1.5 ui-monospace, monospace; }
pre { padding: .75rem 1rem; border: 1px solid; border-radius: .4rem; overflow-x: auto; }
li { overflow-wrap: anywhere; }
</style>
</head>
<body>
<main>
<h1>girih serve: routes</h1>
<p>The same for programs: <a href="openapi.json">openapi.json</a>. An error is a JSON body that names the field and the rule; fields
that are not known are ignored and listed in the header <code>x-girih-ignored</code>. Where keys are asked for, each request
sends <code>Authorization: Bearer KEY</code>.</p>
)";

std::string escaped(std::string_view text) {
  std::string result;
  for (char letter : text)
    switch (letter) {
    case '&': result += "&amp;"; break;
    case '<': result += "&lt;"; break;
    case '>': result += "&gt;"; break;
    case '"': result += "&quot;"; break;
    default: result += letter;
    }
  return result;
}

std::string anchorOf(const Route &route) {
  std::string anchor;
  for (char letter : std::string(route.method) + std::string(route.path))
    anchor += std::isalnum(static_cast<unsigned char>(letter)) ? letter : '-';
  return anchor;
}

std::string titleOf(const Route &route) { return escaped(std::string(route.method) + " " + std::string(route.path)); }

void writeFields(std::string &page, std::string_view fields) {
  page += "<p>Fields: ";
  for (bool isFirst = true; !fields.empty(); isFirst = false) {
    std::string_view name = fields.substr(0, fields.find(' '));
    fields.remove_prefix(std::min(name.size() + 1, fields.size()));
    page += (isFirst ? "<code>" : ", <code>") + escaped(name) + "</code>";
  }
  page += "</p>\n";
}

void writeRoute(std::string &page, const Route &route, const std::string &host, bool asksForKeys) {
  page += "<section aria-labelledby=\"" + anchorOf(route) + "\">\n<h2 id=\"" + anchorOf(route) + "\">" + titleOf(route) + "</h2>\n";
  page += "<p>" + escaped(route.summary) + "." + (asksForKeys && !route.needsKey ? " Asks for no key." : "") + "</p>\n";
  if (!route.fields.empty())
    writeFields(page, route.fields);
  if (!route.example.empty())
    page += "<pre><code>" +
            escaped("curl http://" + host + std::string(route.path) +
                    (asksForKeys ? " -H \"Authorization: Bearer $KEY\"" : "") + " --json '" + std::string(route.example) + "'") +
            "</code></pre>\n";
  page += "</section>\n";
}

} // namespace

void answerDocs(Service &service, std::shared_ptr<Exchange> exchange) {
  // A name that was let in: it is shown again, so it is escaped all the same.
  const std::string &asked = exchange->request().host;
  std::string host = asked.empty() ? "127.0.0.1:8080" : asked, page(kHead);
  page += "<nav aria-label=\"Routes\">\n<ul>\n";
  for (const Route &route : allRoutes())
    page += "<li><a href=\"#" + anchorOf(route) + "\"><code>" + titleOf(route) + "</code></a> " + escaped(route.summary) + "</li>\n";
  page += "</ul>\n</nav>\n";
  for (const Route &route : allRoutes())
    writeRoute(page, route, host, service.options().keys.areAskedFor());
  HttpResponse response;
  response.contentType = "text/html; charset=utf-8";
  response.headers = {{"content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
                                                  "frame-ancestors 'none'"},
                      {"x-content-type-options", "nosniff"},
                      {"referrer-policy", "no-referrer"}};
  response.body = page + "</main>\n</body>\n</html>\n";
  service.answer(*exchange, std::move(response));
}

} // namespace girih::server
