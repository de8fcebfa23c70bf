"""A real OCI registry on loopback: the Distribution project's over a folder, open, with a password, and with tokens."""

import base64
import hashlib
import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from modelyard_hack.control_plane import free_ports
from modelyard_hack.step import wait_until
from modelyard_hack.tools import tool_path

USER, PASSWORD = "modelyard", "a-password-of-the-tests"
_BCRYPT = "$2b$04$C4ybvwNl3qA2n6H/jAQO8OIgdupWKbyocAIJPX8sb1EJfKznXd6Tu"
"""Of the password."""

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_EMPTY = b"{}"


@dataclass(frozen=True)
class Registries:
    """Ports of three registries over the same folder, by what they want to see."""

    open: int
    basic: int
    token: int

    def push(self, repository: str, tag: str, files: dict[str, bytes], **annotations: str) -> str:
        """Push `files` as `oras push` does; the digest of the manifest."""
        layers = [
            self._blob(repository, data) | {"annotations": {"org.opencontainers.image.title": name} | annotations}
            for name, data in files.items()
        ]
        return self.push_manifest(repository, tag, {"layers": layers})

    def push_manifest(self, repository: str, tag: str, fields: dict[str, Any]) -> str:
        """Push a manifest with these fields beside the usual ones."""
        usual: dict[str, Any] = {"schemaVersion": 2, "mediaType": _MANIFEST}
        if "layers" in fields:
            usual["config"] = self._blob(repository, _EMPTY) | {"mediaType": "application/vnd.oci.empty.v1+json"}
        body = json.dumps(usual | fields).encode()
        kind = str(fields.get("mediaType", _MANIFEST))
        self._ask("PUT", f"{self._url}/v2/{repository}/manifests/{tag}", body, {"Content-Type": kind})
        return _digest(body)

    def _blob(self, repository: str, data: bytes) -> dict[str, Any]:
        begun = self._ask("POST", f"{self._url}/v2/{repository}/blobs/uploads/", b"")
        place = begun["Location"] + ("&" if "?" in begun["Location"] else "?") + f"digest={_digest(data)}"
        self._ask("PUT", place, data, {"Content-Type": "application/octet-stream"})
        return {"mediaType": "application/octet-stream", "digest": _digest(data), "size": len(data)}

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.open}"

    def _ask(self, method: str, url: str, body: bytes, headers: dict[str, str] | None = None) -> Any:
        return httpx2.request(method, url, content=body, headers=headers, timeout=30).raise_for_status().headers


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class TokenServer:
    """Gives tokens for reading to whoever knows the password; ES256, as JSON Web Tokens (RFC 7519)."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    port: int = 0
    given: int = 0
    lifetime_s: int = 60

    def certificate(self) -> bytes:
        """What the registry trusts, in DER."""
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
        now = datetime.now(UTC)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.key.public_key())
        made = made.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
        return made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def token(self, scope: str, service: str) -> str:
        self.given += 1
        kind, name, actions = scope.split(":")
        now = int(time.time())
        access = [{"type": kind, "name": name, "actions": actions.split(",")}]
        claims = {"iss": "tokens", "sub": USER, "aud": service, "exp": now + self.lifetime_s, "nbf": now - 60,
                  "iat": now, "jti": str(self.given), "access": access}  # fmt: skip
        header = {"alg": "ES256", "typ": "JWT", "x5c": [base64.b64encode(self.der).decode()]}
        text = b".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self.key.sign(text, ec.ECDSA(hashes.SHA256())))
        return (text + b"." + _base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()

    def __post_init__(self) -> None:
        self.der = self.certificate()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@contextmanager
def token_server() -> Iterator[TokenServer]:
    """On a port of its own."""
    tokens = TokenServer()
    wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            right = self.headers.get("Authorization") == wanted
            body = json.dumps({"token": tokens.token(asked["scope"][0], asked["service"][0])} if right else {}).encode()
            self.send_response(HTTPStatus.OK if right else HTTPStatus.UNAUTHORIZED)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    tokens.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield tokens
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def registries(folder: Path, tokens: TokenServer) -> Iterator[Registries]:
    """Three registries over `folder`."""
    (folder / "users").write_text(f"{USER}:{_BCRYPT}\n")
    certificate = x509.load_der_x509_certificate(tokens.der)
    (folder / "tokens.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    realm = f"http://127.0.0.1:{tokens.port}/token"
    issued = {"realm": realm, "service": "models", "issuer": "tokens", "rootcertbundle": str(folder / "tokens.crt"),
              "signingalgorithms": ["ES256"]}  # fmt: skip
    ways: dict[str, dict[str, Any]] = {
        "open": {},
        "basic": {"auth": {"htpasswd": {"realm": "models", "path": str(folder / "users")}}},
        "token": {"auth": {"token": issued}},
    }
    ports = free_ports(len(ways))
    with ExitStack() as running:
        for port, (name, way) in zip(ports, ways.items(), strict=True):
            running.enter_context(_registry(folder, name, port, way))
        yield Registries(*ports)


@contextmanager
def _registry(folder: Path, name: str, port: int, way: dict[str, Any]) -> Iterator[None]:
    settings = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(settings | way))  # JSON is YAML
    with (folder / f"{name}.log").open("wb") as log:
        command = ["setpriv", "--pdeathsig", "KILL", "--", tool_path("registry"), "serve", str(path)]
        process = subprocess.Popen(command, env={"OTEL_TRACES_EXPORTER": "none"}, stdout=log, stderr=log)
        try:
            wait_until(lambda: _is_up(port), what="the registry", timeout=30)
            yield
        finally:
            process.kill()
            process.wait()


def _is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code == HTTPStatus.UNAUTHORIZED
    except OSError:
        return False
