"""Local mode: the same contract and the same replica on a Ray of this machine, without Kubernetes.

Everything listens on loopback only and is gone when the context ends.
"""

import json
import os
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from modelyard_serving.contract import LOG_FILE_ENV, PROVE_PATH, Proof, ReplicaConfig, read_failure

LOOPBACK = "127.0.0.1"
POLL_S = 0.2
STATUS_EVERY = 5
"""Polls of the journal for each question to Ray Serve, which costs more."""
PROOF_TIMEOUT_S = 60

Entry = dict[str, Any]
"""A line of a replica's journal."""

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # makes Ray itself stay on loopback, as it does on those systems
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a replica sees the machine's GPU without counting it
}


class LocalFailure(Exception):
    """A model could not be served here; `reason` is a `FailureReason` where the replica gave one."""

    def __init__(self, service: str, reason: str, message: str) -> None:
        super().__init__(": ".join(part for part in (service, reason, message) if part))
        self.service = service
        self.reason = reason
        self.message = message


class LocalServing:
    """Models that come up or are served on this machine."""

    def __init__(self, configs: Sequence[ReplicaConfig], port: int, journal: Path) -> None:
        self._configs = configs
        self._port = port
        self._journal = journal
        self._read = 0

    def url(self, service: str) -> str:
        """Where a service answers, as `base_url` of an OpenAI client."""
        return f"http://{LOOPBACK}:{self._port}/{service}/v1"

    def new_entries(self) -> list[Entry]:
        """What the replicas wrote into their journal since the last call."""
        if not self._journal.exists():
            return []
        with self._journal.open("rb") as stream:
            stream.seek(self._read)
            whole = [line for line in stream.read().splitlines(keepends=True) if line.endswith(b"\n")]
        self._read += sum(map(len, whole))
        return [json.loads(line) for line in whole]

    def wait_until_ready(self, on_entry: Callable[[Entry], None], *, timeout_s: float) -> list[Proof]:
        """Wait until every model has answered a real inference; `on_entry` gets the journal meanwhile.

        Raises:
            LocalFailure: a replica cannot start, or not all are there within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        polls = 0
        while not (polls % STATUS_EVERY == 0 and self._all_running()):
            for entry in self.new_entries():
                if entry["event"] == "failed":
                    raise LocalFailure(entry["service"], entry["reason"], entry["message"])
                if entry["event"].startswith("download"):  # How long that takes, nobody can say.
                    deadline = time.monotonic() + timeout_s
                on_entry(entry)
            if time.monotonic() > deadline:
                raise LocalFailure("", "Timeout", f"not ready within {timeout_s:.0f} s")
            polls += 1
            time.sleep(POLL_S)
        for entry in self.new_entries():
            on_entry(entry)
        return [self._prove(config) for config in self._configs]

    def _all_running(self) -> bool:
        from modelyard_serving.local_ray import application

        states = [application(config) for config in self._configs]
        for config, state in zip(self._configs, states, strict=True):
            if state.failure is not None:
                reason, message = read_failure(state.failure) or ("DeployFailed", state.failure.strip())
                raise LocalFailure(config.service, reason, message)
        return all(state.running for state in states)

    def _prove(self, config: ReplicaConfig) -> Proof:
        url = f"http://{LOOPBACK}:{self._port}/{config.service}{PROVE_PATH}"
        try:
            with urllib.request.urlopen(url, timeout=PROOF_TIMEOUT_S) as answer:
                return Proof.model_validate_json(answer.read())
        except (urllib.error.URLError, TimeoutError) as error:
            raise LocalFailure(config.service, "ProofFailed", f"it started but does not answer: {error}") from error


@contextmanager
def serve_locally(configs: Sequence[ReplicaConfig], *, port: int) -> Iterator[LocalServing]:
    """Serve `configs` at `/<namespace>/<name>/v1` until the context ends.

    Raises:
        LocalFailure: the port is taken.
    """
    _claim(port)
    with ExitStack() as stack:
        scratch = tempfile.TemporaryDirectory(prefix="modelyard-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(scratch))
        journal = folder / "replicas.jsonl"
        os.environ.update(RAY_ENVIRONMENT | {LOG_FILE_ENV: str(journal)})
        # Ray reads its environment when it is imported.
        from modelyard_serving import local_ray

        stack.enter_context(local_ray.running_ray(folder, host=LOOPBACK, port=port))
        local_ray.deploy(configs)
        yield LocalServing(configs, port, journal)


def _claim(port: int) -> None:
    """Find out now, and not after half a minute, that the port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            text = f"cannot listen on {LOOPBACK}:{port} ({error.strerror}); choose another with --port"
            raise LocalFailure("", "PortTaken", text) from error
