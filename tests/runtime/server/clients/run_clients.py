# SPDX-License-Identifier: Apache-2.0
"""Runs the scripts of the official OpenAI and Anthropic clients, of LangChain and the AI SDK against the fake server, and
against the real one where a model is at hand.

    run_clients.py python|npm

The clients are installed once, pinned, into the cache folder. Exits with 77 where they cannot be had (no npm, or no
network on the first run) or the servers are not built.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
BUILD = pathlib.Path(os.environ.get("GIRIH_BUILD", HERE.parents[3] / "build"))
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "girih" / "clients"
KEY = "sesame"
SKIP = 77
SCRIPTS = {"python": ["python_client.py", "python_messages.py", "python_langchain.py"],
           "npm": ["npm_client.mjs", "npm_messages.mjs", "npm_ai_sdk.mjs"]}


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIP)


def install(folder, manifests, command):
    """Runs `command` in `folder` unless the same manifests were installed there before."""
    stamp = folder / "installed"
    wanted = "".join((HERE / name).read_text() for name in manifests)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in manifests:
        shutil.copy(HERE / name, folder)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        skip(f"{' '.join(command[:3])} could not install the client: {done.stderr.strip().splitlines()[-1:]}")
    stamp.write_text(wanted)


def client_commands(kind):
    folder = CACHE / kind
    if kind == "python":
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q", "--target", "site",
               "-r", "requirements.txt"]
        install(folder, ["requirements.txt"], pip)
        return [[sys.executable, str(HERE / script)] for script in SCRIPTS[kind]], {"PYTHONPATH": str(folder / "site")}
    if not shutil.which("npm"):
        skip("npm is not installed; apt-get install npm")
    # `ci` takes what the lock file says and checks its integrity. The clients ask for Node 22, of which npm warns only;
    # Debian's Node 18 has all that is tested here.
    install(folder, ["package.json", "package-lock.json"], ["npm", "ci", "--no-fund", "--no-audit"])
    # Node finds packages beside a script, so the scripts stand beside them.
    for script in SCRIPTS[kind]:
        shutil.copy(HERE / script, folder)
    return [["node", str(folder / script)] for script in SCRIPTS[kind]], {}


class Server:
    """A server process on a port of its own choice."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            found = re.search(r"listening on (http://\S+?),?(\s|$)", line)
            if found:
                self.url = found.group(1)
                return
        sys.exit(f"{command[0]} ended without listening, with status {self.process.wait()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            sys.exit("the server did not drain within 60 s of SIGTERM")
        if status:
            sys.exit(f"the server ended with status {status}")


def run(commands, environment, server_command, model):
    with Server(server_command) as server:
        print(f"== {pathlib.Path(server_command[0]).name}, model {model}", flush=True)
        settings = {"GIRIH_URL": server.url, "GIRIH_KEY": KEY, "GIRIH_MODEL": model,
                    "GIRIH_SERVER_PID": str(server.process.pid)}
        for command in commands:
            done = subprocess.run(command, env={**os.environ, **environment, **settings})
            if done.returncode:
                sys.exit(f"{pathlib.Path(command[-1]).name} failed against {server_command[0]}")


def main():
    fake = BUILD / "bin" / "girih-fake-server"
    if not fake.exists():
        skip(f"{fake} is not built")
    commands, environment = client_commands(sys.argv[1])
    run(commands, environment, [str(fake), KEY], "fake")

    girih, checkpoint = BUILD / "bin" / "girih", os.environ.get("GIRIH_SMOLLM2_GGUF", "")
    if not girih.exists() or not (BUILD / "bin" / "girih-compile").exists() or not os.path.exists(checkpoint):
        print("not run against a real model: GIRIH_SMOLLM2_GGUF names none, or girih-compile is not built")
        return
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "smollm2.girih"
        subprocess.run([girih, "compile", checkpoint, "--embeddings", "-o", program], check=True)
        run(commands, environment, [str(girih), "serve", str(program), "--port", "0", "--api-key", KEY], "smollm2")


main()
