"""A proxy in front of a real server, with the faults that it is told to have."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Faults:
    """How the way to the server misbehaves, and what went over it. A file's name is the end of its path."""

    upstream: int
    """The server's port on loopback."""
    url: str = ""
    cuts: dict[str, int] = field(default_factory=dict)
    """Answers with a file that end half-way, still to come."""
    refusals: list[int] = field(default_factory=list)
    """Statuses that the next requests get."""
    refusals_of: dict[str, list[int]] = field(default_factory=dict)
    """Statuses that the next requests for a file get in place of an answer of 2xx."""
    wrong: set[str] = field(default_factory=set)
    """Files that come with one byte changed."""
    headers: dict[str, str] = field(default_factory=dict)
    """What each answer has beside its own."""
    drops: set[str] = field(default_factory=set)
    """Headers of requests that do not get through, in lower case."""
    challenge: dict[str, str] = field(default_factory=dict)
    """The last challenge (`WWW-Authenticate`) that the server itself sent."""
    pause: threading.Event | None = None
    """Files come when it is set."""
    begun_at: list[tuple[str, int]] = field(default_factory=list)
    """Each file that was sent, and the byte that it began with."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and headers of each request."""

    def name_of(self, path: str) -> str:
        return unquote(path.partition("?")[0]).rpartition("/")[2]

    def begun(self, name: str) -> list[int]:
        return [begin for each, begin in self.begun_at if each == name]


class _Handler(BaseHTTPRequestHandler):
    faults: Faults
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.faults.requests.append((self.command, self.path, dict(self.headers)))
        if self.faults.refusals:
            return self._send(self.faults.refusals.pop(0), {}, b"")
        connection = http.client.HTTPConnection("127.0.0.1", self.faults.upstream, timeout=30)
        try:
            # The Host that was signed, and no other.
            headers = {k: v for k, v in self.headers.items() if k.lower() not in self.faults.drops}
            connection.request(self.command, self.path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP} | self.faults.headers
        if self.command == "HEAD":
            return self._send(answer.status, headers | {"Content-Length": answer.getheader("Content-Length", "0")}, b"")
        return self._send_file(answer.status, headers, body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send_file(self, status: int, headers: dict[str, str], body: bytes) -> None:
        name, faults = self.faults.name_of(self.path), self.faults
        sent = body
        faults.challenge |= {k: v for k, v in headers.items() if k.lower() == "www-authenticate"}
        if status < HTTPStatus.BAD_REQUEST and faults.refusals_of.get(name):
            return self._send(faults.refusals_of[name].pop(0), faults.challenge, b"")
        if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT) and "?" not in self.path:
            faults.begun_at.append((name, int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])))
            if faults.pause is not None:
                faults.pause.wait(30)
            if name in faults.wrong:
                sent = body[:-1] + bytes([body[-1] ^ 1])
            if faults.cuts.get(name, 0) > 0:
                faults.cuts[name] -= 1
                sent = sent[: len(sent) // 2]
                self.close_connection = True
        return self._send(status, {"Content-Length": str(len(body))} | headers, sent)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def in_front_of(port: int) -> Iterator[Faults]:
    """A proxy on a port of its own."""
    faults = Faults(upstream=port)

    class Handler(_Handler):
        pass

    Handler.faults = faults
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    faults.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
