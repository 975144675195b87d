// SPDX-License-Identifier: Apache-2.0
// girih-fake-server: the whole server over a FakeEngine, for the official clients' tests; prints its port.
#include "runtime/server/endpoints.h"
#include "tests/runtime/server/fake_engine.h"

#include <cstdio>
#include <cstdlib>

using namespace girih::server;

int main(int argc, char **argv) {
  FakeEngineOptions engineOptions;
  engineOptions.maxRunning = 16;
  engineOptions.contextTokens = 2048;
  ServiceOptions serviceOptions;
  if (argc > 1 && *argv[1])
    serviceOptions.keys = ApiKeys::ofOne(argv[1]);
  Service service(fakeModel(engineOptions), serviceOptions);
  HttpServerOptions httpOptions;
  httpOptions.port = 0;
  httpOptions.drainOnSignals = true;
  auto server = HttpServer::create(httpOptions, makeHandlers(service));
  if (!server.isOk()) {
    std::fprintf(stderr, "%s\n", std::string(server.status().message()).c_str());
    return EXIT_FAILURE;
  }
  std::printf("listening on http://127.0.0.1:%d\n", (*server)->port());
  std::fflush(stdout);
  (*server)->run();
  service.shutDown();
  return EXIT_SUCCESS;
}
