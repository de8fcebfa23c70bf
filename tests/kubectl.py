"""kubectl against the API server that a test run starts for itself."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard_hack.tools import tool_path

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    error: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Kubectl:
    """kubectl as the admin of one API server."""

    kubeconfig: Path

    def __call__(self, *arguments: str, manifest: Manifest | list[Manifest] | None = None) -> Answer:
        """Run it, whatever comes of it; `manifest` goes to its standard input, for `-f -`."""
        items = manifest if isinstance(manifest, list) else [manifest]
        given = None if manifest is None else "\n---\n".join(json.dumps(item) for item in items)
        # What another server of another run said about our kinds is not for this one.
        cache = self.kubeconfig.with_name("discovery")
        options = [f"--kubeconfig={self.kubeconfig}", f"--cache-dir={cache}"]
        command = [tool_path("kubectl"), *options, *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=50, check=False)
        return Answer(done.returncode, done.stdout, done.stderr)

    def must(self, *arguments: str, manifest: Manifest | list[Manifest] | None = None) -> Answer:
        """Run it and insist that it succeeds."""
        answer = self(*arguments, manifest=manifest)
        assert answer.code == 0, f"kubectl {' '.join(arguments)}: {answer.error}"
        return answer
