"""Starts a server for a module of tests, and reads back what clients sent."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

START_SECONDS = 60
WAIT_SECONDS = 30


def binary():
    path = os.environ.get("CHRONOLITH_BIN") or shutil.which("chronolith")
    if not path:
        raise unittest.SkipTest("no server: set CHRONOLITH_BIN")
    return path


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """A server on free ports and a temporary directory."""

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="chronolith-clients-")
        self.ports = {
            "listen": free_port(),
            "otlp-grpc-listen": free_port(),
            "otlp-http-listen": free_port(),
            "syslog-tcp-listen": free_port(),
            "syslog-udp-listen": free_port(socket.SOCK_DGRAM),
        }
        self.url = f"http://127.0.0.1:{self.ports['listen']}"
        command = [binary(), "serve", "--data-dir", os.path.join(self.dir.name, "data")]
        command += ["--self-scrape", "off", "--log-level", "warn"]
        for flag, port in self.ports.items():
            command += [f"--{flag}", f"127.0.0.1:{port}"]
        self.log = open(os.path.join(self.dir.name, "log"), "w+b")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        try:
            eventually(lambda: self.get("/health/ready")[0] == 200, START_SECONDS)
        except Exception:
            self.stop()
            raise

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.dir.cleanup()

    def get(self, path, **arguments):
        """Status and text."""
        url = self.url + path
        if arguments:
            url += "?" + urllib.parse.urlencode(arguments)
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def json(self, path, **arguments):
        status, text = self.get(path, **arguments)
        if status != 200:
            raise AssertionError(f"{path} {arguments}: {status} {text}")
        return json.loads(text)

    def promql(self, query):
        """Labels and value of each series."""
        result = self.json("/api/v1/query", query=query)["data"]["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def lines(self, query):
        """Labels, nanoseconds and text of each line, the oldest first."""
        start = int((time.time() - 6 * 3600) * 1e9)
        answer = self.json("/loki/api/v1/query_range", query=query, start=start,
                           end=int((time.time() + 60) * 1e9), limit=5000, direction="forward")
        found = []
        for stream in answer["data"]["result"]:
            for value in stream["values"]:
                found.append((stream["stream"], int(value[0]), value[1]))
        return sorted(found, key=lambda line: line[1])

    def trace(self, trace_id):
        """The spans of a trace as Jaeger has them; skips where that API is missing."""
        status, text = self.get(f"/api/traces/{trace_id}")
        if status == 404 and '"errors"' not in text:
            raise unittest.SkipTest("the server has no /api/traces")
        if status != 200:
            return []
        return [span for trace in json.loads(text)["data"] for span in trace["spans"]]

    def metric(self, name):
        """One of the server's own metrics."""
        text = self.get("/metrics")[1]
        found = re.search("^" + re.escape(name) + r" (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0


def eventually(condition, seconds=WAIT_SECONDS):
    """Waits until the condition is something, and answers it."""
    end = time.monotonic() + seconds
    while True:
        try:
            value = condition()
            if value:
                return value
            problem = f"last answer {value!r}"
        except AssertionError as error:
            problem = str(error)
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {problem}")
        time.sleep(0.1)


class WithServer(unittest.TestCase):
    """Tests that share one server."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
