"""A tracking server that can be made to fail: MLflow's own behind a proxy that refuses, hangs or answers 500."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

START_S = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """MLflow's server on 127.0.0.1 with a database and artifacts in `folder`; yields its address."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", address.split(":")[1]]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + START_S
        while not _answers(address):
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError(f"the server does not start: {(folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Proxy:
    """Hands requests on to a server until `fails_after` of them have been answered; then it does what `how` says, until
    `back_after` more have come.

    how: `500`, `hang` (the connection stays open, nothing comes) or `close` (as a server that died).
    """

    def __init__(self, target: str, how: str, fails_after: int, back_after: int | None = None) -> None:
        self._target, self._how = target, how
        self._fails_after, self._back_after = fails_after, back_after
        self._count, self._lock = 0, threading.Lock()
        self._ended = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                proxy.answer(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def failed(self) -> int:
        """How many requests it did not hand on."""
        return max(0, min(self._count, self._fails_after + (self._back_after or self._count)) - self._fails_after)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            self._count += 1
            since = self._count - self._fails_after
        if since <= 0 or (self._back_after is not None and since > self._back_after):
            self._hand_on(request, body)
        elif self._how == "500":
            request.send_response(500)
            request.send_header("Content-Length", "0")
            request.end_headers()
        else:
            if self._how == "hang":
                self._ended.wait()
            request.close_connection = True

    def _hand_on(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        connection = http.client.HTTPConnection(self._target, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
        connection.request(request.command, request.path, body, {**headers, "Host": self._target})
        answer = connection.getresponse()
        content = answer.read()
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() in ("content-type", "content-disposition"):
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)
        connection.close()

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
