"""A real S3 server on loopback: Versity's gateway over a folder."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.store import S3Store

from modelyard_hack.control_plane import free_ports
from modelyard_hack.step import wait_until
from modelyard_hack.tools import tool_path

KEY, SECRET = "modelyard", "a-secret-of-the-tests"
PRIVATE, PUBLIC = "models", "models-for-all"


@dataclass(frozen=True)
class S3Server:
    """Where it listens, and where it keeps what it holds."""

    port: int
    folder: Path

    def put(self, bucket: str, prefix: str, files: dict[str, bytes], *, part_bytes: int | None = None) -> None:
        """Upload `files`; those larger than `part_bytes` in parts."""
        store = S3Store(
            bucket,
            aws_endpoint_url_s3=f"http://127.0.0.1:{self.port}",
            access_key_id=KEY,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
        )
        for name, data in files.items():
            size = part_bytes or len(data) + 1
            obstore.put(store, f"{prefix}/{name}", data, chunk_size=size, use_multipart=len(data) > size)

    def call_it(self, bucket: str, key: str, etag: str) -> None:
        """Give an object another ETag, as stores do that encrypt it."""
        (self.folder / "attributes" / bucket / key / "meta" / "etag").write_text(etag)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Runs in `folder`, with a bucket that needs credentials and one that needs none."""
    for bucket in (PRIVATE, PUBLIC):
        (folder / "buckets" / bucket).mkdir(parents=True)
    policy = folder / "attributes" / PUBLIC / "meta" / "policy"
    policy.parent.mkdir(parents=True)
    resources = [f"arn:aws:s3:::{PUBLIC}", f"arn:aws:s3:::{PUBLIC}/*"]
    allowed = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": resources}
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [allowed]}))
    [port] = free_ports(1)
    gateway = [tool_path("versitygw"), "--quiet", "--port", f"127.0.0.1:{port}", "--health", "/health"]
    backend = ["posix", "--sidecar", str(folder / "attributes"), str(folder / "buckets")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *gateway, *backend],
            env=os.environ | {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(lambda: _is_up(port), what="the S3 server", timeout=30)
            yield S3Server(port, folder)
        finally:
            process.kill()
            process.wait()


def _is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False
