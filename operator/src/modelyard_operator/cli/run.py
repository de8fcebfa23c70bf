"""`modelyard run`: serve a manifest on this machine, without Kubernetes."""

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from modelyard_operator.cli.failure import CliFailure, ExitCode, report
from modelyard_operator.cli.manifest import Device, InvalidManifest, read_services, replica_config
from modelyard_operator.cli.options import TextOrJson, TextOutput
from modelyard_serving.contract import Proof, ReplicaConfig, Task

if TYPE_CHECKING:
    from modelyard_serving.local import LocalServing

EXAMPLES = """
Examples:
  modelyard run -f examples/smollm2.yaml --volume models=~/.cache/modelyard/models
  modelyard run -f a.yaml -f b.yaml --volume models=/srv/models --port 9000
  modelyard run -f manifest.yaml --volume models=. -o json     one line of JSON when all is ready
  HF_TOKEN=... modelyard run -f private.yaml      a model of hf://, kept in ~/.cache/modelyard/sources
"""
WRONG_USAGE = 2
START_TIMEOUT_S = 900.0
POLL_S = 0.2
NEEDED = ("ray", "torch", "transformers", "prometheus_client")
QUESTION = "What is the capital of France?"
GREY_PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
"""A png of one pixel."""


def run(
    files: Annotated[list[Path], typer.Option("--filename", "-f", help="A manifest; may be repeated.")],
    volume: Annotated[
        list[str], typer.Option(help="CLAIM=DIRECTORY: a folder that stands in for a claim; may be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    port: Annotated[int, typer.Option(help="Port on loopback.", min=1, max=65535)] = 8000,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; left out: cpu for the pool named cpu, else cuda.")
    ] = None,
    output: TextOrJson = TextOutput.TEXT,
) -> None:
    """Serve the ModelServices of a manifest on this machine until Ctrl-C."""
    screen = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    try:
        configs = _configs(files, _volumes(volume), _device(device), screen)
    except InvalidManifest as error:
        report(CliFailure(str(error)))
        raise typer.Exit(WRONG_USAGE) from None
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        text = f"`modelyard run` needs packages that are not installed: {', '.join(missing)}."
        report(CliFailure(text, "Install them: pip install 'modelyard[serving]'"))
        raise typer.Exit(ExitCode.FAILED)
    _serve(configs, port, screen, as_json=output is TextOutput.JSON)


def _configs(
    files: Sequence[Path], volumes: dict[str, Path], device: Device | None, screen: Console
) -> list[ReplicaConfig]:
    configs: dict[str, ReplicaConfig] = {}
    for file in files:
        services, notes = read_services(file)
        for note in notes:
            screen.print(note)
        for service in services:
            try:
                config = replica_config(service, volumes, device, _cache_folder())
            except InvalidManifest as error:
                raise InvalidManifest(f"{file}: {error}") from None
            if config.service in configs:
                raise InvalidManifest(f"{file}: {config.service} is in another file too")
            configs[config.service] = config
    return list(configs.values())


def _volumes(given: Sequence[str]) -> dict[str, Path]:
    volumes = {}
    for text in given:
        claim, separator, folder = text.partition("=")
        path = Path(folder).expanduser().resolve()
        if not (claim and separator and folder):
            raise typer.BadParameter(f"{text!r} is not CLAIM=DIRECTORY, for example models=./models")
        if not path.is_dir():
            raise typer.BadParameter(f"{text!r}: there is no directory {path}")
        volumes[claim] = path
    return volumes


def _cache_folder() -> Path:
    """Where models that are downloaded are kept."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return home / "modelyard" / "sources"


def _device(text: str | None) -> Device | None:
    match text:
        case None | "cpu" | "cuda":
            return text
        case _:
            raise typer.BadParameter(f"--device {text}: must be cpu or cuda")


def _serve(configs: Sequence[ReplicaConfig], port: int, screen: Console, *, as_json: bool) -> None:
    from modelyard_serving.local import LocalFailure, serve_locally

    began = time.monotonic()
    # A stop is a stop, from the terminal or from a supervisor.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        screen.print("starting Ray on this machine ...")
        with serve_locally(configs, port=port) as serving:
            signal.signal(signal.SIGTERM, _interrupt)  # Ray puts its own handler in place
            screen.print(f"Ray is up after {time.monotonic() - began:.1f} s")
            ready: dict[str, dict[str, Any]] = {}
            show = _progress(screen, ready)
            proofs = serving.wait_until_ready(show, timeout_s=START_TIMEOUT_S)
            seconds = time.monotonic() - began
            if as_json:
                print(json.dumps(_document(serving, proofs, seconds)), flush=True)
            else:
                _print_ready(serving, proofs, seconds, ready)
            while True:
                for entry in serving.new_entries():
                    show(entry)
                time.sleep(POLL_S)
    except LocalFailure as failure:
        report(CliFailure(str(failure)))
        raise typer.Exit(ExitCode.FAILED) from None
    except KeyboardInterrupt:
        screen.print("stopped")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _progress(screen: Console, ready: dict[str, dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    """Shows what a replica's journal says; notes in `ready` what it says of each service that is."""

    def show(entry: dict[str, Any]) -> None:
        match entry:
            case {"event": "phase-begins", "service": service, "phase": phase, **rest}:
                size = f" of {rest['bytes'] / 2**20:.0f} MiB" if "bytes" in rest else ""
                screen.print(f"{service}: {phase}{size} ...")
            case {"event": "download", "service": service, "bytes": total, **rest}:
                screen.print(f"{service}: {rest.get('done_bytes', 0) / 2**20:.0f} of {total / 2**20:.0f} MiB")
            case {"event": "download-waits" | "source-unreachable", "service": service, "message": message}:
                screen.print(f"{service}: {message}")
            case {"event": "phase-ends", "service": service, "phase": phase, "seconds": seconds}:
                screen.print(f"{service}: {phase} done after {seconds:.1f} s")
            case {"event": "ready", "service": service}:
                ready[service] = entry
            case {"event": "request", "service": service, "endpoint": endpoint, "status": status, "seconds": seconds}:
                tokens = f", {entry['completion_tokens']} tokens" if "completion_tokens" in entry else ""
                screen.print(f"{service}: {endpoint} {status} in {seconds:.2f} s{tokens}")

    return show


def _document(serving: "LocalServing", proofs: Sequence[Proof], seconds: float) -> dict[str, Any]:
    services = [{"url": serving.url(proof.service), **proof.model_dump()} for proof in proofs]
    return {"ready_s": round(seconds, 2), "services": services}


def _print_ready(
    serving: "LocalServing", proofs: Sequence[Proof], seconds: float, ready: dict[str, dict[str, Any]]
) -> None:
    print(f"\nReady after {seconds:.1f} s.\n")
    for proof in proofs:
        url = serving.url(proof.service)
        facts = ready.get(proof.service, {})
        if facts.get("task") == Task.TENSOR:
            print(f"{proof.service} answers the Open Inference Protocol; what it takes and gives:\n")
            print(f"  curl {url.removesuffix('/v1')}/v2/models/{proof.service}\n")
            continue
        print(f"{proof.service} answers at {url}, for example\n")
        if facts.get("task") == Task.AUTOMATIC_SPEECH_RECOGNITION:
            print(f"  curl {url}/audio/transcriptions -F model={proof.service} -F file=@speech.wav\n")
            continue
        path, body = _example(facts)
        data = json.dumps({"model": proof.service, **body})
        print(f"  curl {url}/{path} -H 'Content-Type: application/json' \\\n    -d '{data}'\n")
    print("Ctrl-C stops it.", flush=True)


def _example(facts: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """An endpoint of a service that is ready and something to send there, beside the model."""
    match facts:
        case {"chat": True}:
            return "chat/completions", {"messages": [{"role": "user", "content": QUESTION}]}
        case {"task": Task.EMBEDDINGS}:
            return "embeddings", {"input": "Python is"}
        case {"task": Task.TEXT_CLASSIFICATION}:
            return "classify", {"input": "Python is fun"}
        case {"task": Task.IMAGE_CLASSIFICATION}:
            return "classify", {"input": GREY_PICTURE}
        case {"task": Task.RERANK}:
            return "rerank", {"query": "What is Python?", "documents": ["a snake", "a language"]}
        case {"task": Task.RECOMMEND, "users": int()}:
            return "recommend", {"user_id": "an id of the users in the package", "k": 3}
        case {"task": Task.RECOMMEND}:
            return "recommend", {"items": ["an id of the items in the package"], "k": 3}
    return "completions", {"prompt": "Python is", "max_tokens": 32}
