// SPDX-License-Identifier: Apache-2.0
// HttpClient: a blocking socket that can do what no proper client does: cut requests, stop reading, go away.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace girih::server {

class HttpClient {
public:
  explicit HttpClient(uint16_t port) : handle(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    isConnected = connect(handle, reinterpret_cast<sockaddr *>(&address), sizeof(address)) == 0;
  }
  ~HttpClient() { closeNow(); }
  HttpClient(const HttpClient &) = delete;

  void closeNow() {
    if (handle >= 0)
      close(handle);
    handle = -1;
  }
  // Sends as much as the server takes; false when it closed the connection.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t numBytes = ::send(handle, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (numBytes <= 0)
        return false;
      bytes.remove_prefix(static_cast<size_t>(numBytes));
    }
    return true;
  }
  // Reads until `text` was seen (returns all up to its end), the server closed or ten seconds passed.
  std::string readUntil(std::string_view text) {
    size_t found;
    while ((found = received.find(text)) == std::string::npos)
      if (!readSome())
        return std::exchange(received, {});
    std::string result = received.substr(0, found + text.size());
    received.erase(0, result.size());
    return result;
  }
  // Reads until the server closes.
  std::string readAll() {
    while (readSome()) {
    }
    return std::exchange(received, {});
  }
  // One answer with a content-length: head and body.
  std::string readAnswer() {
    std::string head = readUntil("\r\n\r\n");
    size_t at = head.find("content-length: ");
    size_t numBytes = at == std::string::npos ? 0 : std::stoul(head.substr(at + 16));
    while (received.size() < numBytes && readSome()) {
    }
    std::string answer = head + received.substr(0, numBytes);
    received.erase(0, numBytes);
    return answer;
  }
  bool connected() const { return isConnected; }

private:
  bool readSome() {
    pollfd descriptor{handle, POLLIN, 0};
    if (poll(&descriptor, 1, 10'000) <= 0)
      return false;
    char bytes[16384];
    ssize_t numBytes = recv(handle, bytes, sizeof(bytes), 0);
    if (numBytes <= 0)
      return false;
    received.append(bytes, static_cast<size_t>(numBytes));
    return true;
  }

  int handle;
  bool isConnected = false;
  std::string received;
};

}  // namespace girih::server
