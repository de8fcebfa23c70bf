"""A hub on loopback that answers what huggingface_hub asks, and has the faults that it is told to have."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LFS_FROM = 10_000


@dataclass
class Hub:
    """What the hub holds, how it misbehaves, and what it was asked."""

    files: dict[str, bytes]
    repo: str = "acme/tiny"
    revisions: tuple[str, ...] = ("main", "v1")
    url: str = ""
    token: str | None = None
    """Needed for everything, if set."""
    gated: bool = False
    cuts: dict[str, int] = field(default_factory=dict)
    """Answers to a file that end half-way, still to come."""
    refusals: list[int] = field(default_factory=list)
    """Statuses that the next requests get."""
    wrong: set[str] = field(default_factory=set)
    """Files that come with one byte changed."""
    sizes_told: bool = True
    ranges: bool = True
    pause: threading.Event | None = None
    """Files come when it is set."""
    asked: Counter[str] = field(default_factory=Counter)
    begun_at: list[tuple[str, int]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)

    def digest(self, name: str) -> str:
        data = self.files[name]
        if len(data) >= LFS_FROM:
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()

    def sibling(self, name: str) -> dict[str, Any]:
        if not self.sizes_told:
            return {"rfilename": name}
        data = self.files[name]
        known: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": self.digest(name)}
        if len(data) >= LFS_FROM:
            known["lfs"] = {"size": len(data), "sha256": self.digest(name), "pointerSize": 134}
        return known


def model_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.hub.asked[path] += 1
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.tokens.add(token)
        if self.hub.refusals:
            return self._refuse(self.hub.refusals.pop(0))
        if self.hub.gated:
            return self._refuse(HTTPStatus.FORBIDDEN, "GatedRepo")
        if self.hub.token is not None and token != self.hub.token:
            return self._refuse(HTTPStatus.FORBIDDEN if token else HTTPStatus.UNAUTHORIZED)
        match path.split("/"):
            case ["api", "models", org, repo, "revision", revision]:
                return self._describe(f"{org}/{repo}", revision)
            case [org, repo, "resolve", revision, *name] if f"{org}/{repo}" == self.hub.repo:
                if revision == COMMIT and "/".join(name) in self.hub.files:
                    return self._send_file("/".join(name))
                return self._refuse(HTTPStatus.NOT_FOUND, "EntryNotFound")
        return self._refuse(HTTPStatus.NOT_FOUND, "RepoNotFound")

    def _describe(self, repo: str, revision: str) -> None:
        if repo != self.hub.repo:
            return self._refuse(HTTPStatus.NOT_FOUND, "RepoNotFound")
        if revision not in (*self.hub.revisions, COMMIT):
            return self._refuse(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        siblings = [self.hub.sibling(name) for name in self.hub.files]
        body = json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return self._write(body)

    def _send_file(self, name: str) -> None:
        data = self.hub.files[name]
        begin = 0
        if self.hub.ranges and self.headers.get("Range"):
            begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        self.send_response(HTTPStatus.PARTIAL_CONTENT if begin else HTTPStatus.OK)
        self.send_header("Content-Length", str(len(data) - begin))
        self.send_header("ETag", f'"{self.hub.digest(name)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.hub.begun_at.append((name, begin))
        if self.hub.pause is not None:
            self.hub.pause.wait(30)
        if name in self.hub.wrong:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if self.hub.cuts.get(name, 0) > 0:
            self.hub.cuts[name] -= 1
            self._write(data[begin : (begin + len(data)) // 2])
            self.close_connection = True
            return
        self._write(data[begin:])

    def _refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _write(self, body: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """`hub` at `hub.url` until the context ends."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
