# SPDX-License-Identifier: Apache-2.0
"""Bad programs, bad requests and full disks, through the command line: an error that says what was seen, never a crash."""
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

BIN = pathlib.Path(os.environ["GIRIH_BUILD"]) / "bin"
HEADER_BYTES = 64


def girih(*arguments, **options):
    return subprocess.run([str(BIN / "girih"), *map(str, arguments)], capture_output=True, text=True, timeout=120, **options)


class Toy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        for name in ("toy", "foreign"):
            subprocess.run([str(BIN / "girih-write-toy"), str(cls.folder / f"{name}.girih"), name], check=True)
        cls.toy, cls.foreign = cls.folder / "toy.girih", cls.folder / "foreign.girih"

    def assert_refused(self, done, *seen):
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        for words in seen:
            self.assertIn(words, done.stderr)


class Programs(Toy):
    def refuse_bytes(self, content, what):
        path = self.folder / "bad.girih"
        path.write_bytes(content)
        for arguments in (["run", path, "--tokens", "1"], ["inspect", path]):
            with self.subTest(what=what, command=arguments[0]):
                self.assert_refused(girih(*arguments), "bad.girih")

    def test_cut_at_every_percent(self):
        whole = self.toy.read_bytes()
        for percent in range(100):
            self.refuse_bytes(whole[:len(whole) * percent // 100], f"cut at {percent} %")

    def test_every_byte_of_the_header_flipped(self):
        whole = self.toy.read_bytes()
        for index in range(HEADER_BYTES):
            self.refuse_bytes(whole[:index] + bytes([whole[index] ^ 0xFF]) + whole[index + 1:], f"byte {index} flipped")

    def test_a_file_for_another_isa(self):
        self.assert_refused(girih("run", self.foreign, "--tokens", "1"), "vax780", "missing", "compile")
        self.assert_refused(girih("serve", self.foreign, "--port", "0"), "vax780")
        self.assertEqual(girih("inspect", self.foreign).returncode, 0)  # reading it needs no such machine

    def test_a_prompt_beyond_the_context(self):
        self.assert_refused(girih("run", self.toy, "--tokens", ",".join(["1"] * 2049)), "2049", "2048")
        long_prompt = self.folder / "long.txt"
        long_prompt.write_text("x" * 5000)
        self.assert_refused(girih("run", self.toy, "--prompt-file", long_prompt), "2048")

    def test_a_full_disk_leaves_no_logits(self):
        run = f"{BIN}/girih run ../toy.girih --tokens 1,2,3 --max-tokens 40 --dump-logits x.npy; echo $?; ls *.npy*"
        (self.folder / "full").mkdir()
        # A file system of 64 kB of our own; where user namespaces are forbidden, a limit on file sizes stands for it.
        fill = f"mount -t tmpfs -o size=64k none full && cd full && head -c 60k /dev/zero >filler; {run}"
        command = ["unshare", "-rm", "sh", "-c", fill]
        if subprocess.run([*command[:4], "mount -t tmpfs none full"], cwd=self.folder, capture_output=True).returncode:
            command = ["bash", "-c", f"cd full && ulimit -f 4; {run}"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120)
        self.assertIn("cannot write x.npy", done.stderr)
        self.assertEqual(done.stdout.split()[-1], "1")


class Requests(Toy):
    @contextlib.contextmanager
    def serve(self, program):
        process = subprocess.Popen([str(BIN / "girih"), "serve", str(program), "--port", "0"], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        try:
            line = next(line for line in process.stdout if "listening on" in line)
            host, port = line.split("http://")[1].split()[0].rstrip(",").split(":")
            yield host, int(port)
            self.assertIsNone(process.poll(), "the server ended")
        finally:
            process.terminate()
            process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)

    def post(self, address, path, body, headers=None):
        """(status, parsed body)"""
        connection = http.client.HTTPConnection(*address, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", path, body, headers or {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def test_malformed_requests(self):
        chat, plain = "/v1/chat/completions", "/v1/completions"
        hello = '"messages":[{"role":"user","content":"Hi"}]'
        cases = [
            (chat, b"", 400, "JSON"), (chat, b"{", 400, "JSON"), (chat, b"[]", 400, "object"), (chat, b"\xff\xfe{}", 400, "JSON"),
            (chat, b"{}", 400, "messages"), (chat, b'{"messages":[]}', 400, "messages"), (chat, b'{"messages":7}', 400, "messages"),
            (chat, b'{"messages":[{"content":"x"}]}', 400, "role"), (chat, b"[" * 100_000, 400, "JSON"),
            (chat, f'{{{hello},"temperature":"hot"}}'.encode(), 400, "temperature"),
            (chat, f'{{{hello},"temperature":1e999}}'.encode(), 400, ""),
            (chat, f'{{{hello},"max_tokens":-1}}'.encode(), 400, "max_tokens"),
            (chat, f'{{{hello},"max_tokens":9223372036854775808}}'.encode(), 400, "max_tokens"),
            (chat, f'{{{hello},"seed":1.5}}'.encode(), 400, "seed"), (chat, f'{{{hello},"stop":[1]}}'.encode(), 400, "stop"),
            (chat, f'{{{hello},"n":0}}'.encode(), 400, "n"), (chat, f'{{{hello},"stream":"yes"}}'.encode(), 400, "stream"),
            (plain, b"{}", 400, "prompt"), (plain, b'{"prompt":[-1]}', 400, "prompt"), (plain, b'{"prompt":[4000000000]}', 400, "prompt"),
            (plain, b'{"prompt":[9223372036854775808]}', 400, "prompt"), (plain, b'{"prompt":"' + b"x" * 9000 + b'"}', 400, "2048"),
            (chat, f'{{"model":"gpt-9",{hello}}}'.encode(), 404, "gpt-9"), ("/v1/nothing", b"{}", 404, "/v1/nothing"),
        ]
        with self.serve(self.toy) as address:
            for path, body, status, seen in cases:
                with self.subTest(path=path, body=body[:60]):
                    got, answer = self.post(address, path, body)
                    self.assertEqual(got, status, answer)
                    self.assertIn(seen, answer["error"]["message"] + str(answer["error"]["param"]))
                    self.assertTrue({"message", "type", "param", "code"} <= set(answer["error"]))
            self.assertEqual(self.post(address, chat, f'{{{hello},"max_tokens":2}}')[0], 200)

    def test_a_hundred_megabytes(self):
        with self.serve(self.toy) as address:
            status, answer = self.post(address, "/v1/chat/completions", b"x" * (100 << 20))
            self.assertEqual(status, 413)
            self.assertIn("16777216", answer["error"]["message"])
            # The same in chunks, so that no length is told beforehand.
            chunks = (b"x" * (1 << 20) for _ in range(100))
            try:
                status, _ = self.post(address, "/v1/chat/completions", chunks, {"Content-Type": "application/json"})
                self.assertEqual(status, 413)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client was still sending when the server had heard enough
            self.assertEqual(self.post(address, "/v1/completions", b'{"prompt":[1],"max_tokens":1}')[0], 200)

    def test_what_is_not_http(self):
        with self.serve(self.toy) as address:
            for sent in (b"\0" * 64 + b"\r\n\r\n", b"GET\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                         b"POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                         b"GET /health HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
                with self.subTest(sent=sent[:40]), socket.create_connection(address, timeout=30) as connection:
                    connection.sendall(sent)
                    connection.shutdown(socket.SHUT_WR)
                    status = connection.recv(100).split(b" ")
                    self.assertTrue(len(status) < 2 or status[1] in (b"400", b"413", b"431"), status)
            self.assertEqual(self.post(address, "/v1/completions", b'{"prompt":[1],"max_tokens":1}')[0], 200)


if __name__ == "__main__":
    if not (BIN / "girih-write-toy").exists() or not (BIN / "girih").exists():
        print("skipped: girih or girih-write-toy is not built")
        sys.exit(77)
    unittest.main()
