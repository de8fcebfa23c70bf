"""A hub with a tiny model, and downloads from it that wait for nothing."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from tests.sources.hub_server import Hub, model_files, serving

from modelyard_serving.sources.cache import Cache, Hold
from modelyard_serving.sources.hub import HubRepository
from modelyard_serving.sources.order import Download, Order
from modelyard_serving.sources.origin import Origin
from modelyard_serving.sources.transfer import Patience

URI = "hf://acme/tiny@v1"
WEIGHTS = "model.safetensors"
IMPATIENT = Patience(attempts=3, first_s=0.001)

Brought = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.unit.serving.tiny import write_model  # brings torch, which most of these tests do without

    return write_model(tmp_path_factory.mktemp("models") / "tiny", "llama")


@pytest.fixture(scope="session")
def files() -> dict[str, bytes]:
    """What looks like a model to who downloads it; the weights come in several reads."""
    weights = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(40_000))
    return {"config.json": b'{"model_type": "llama"}', "tokenizer.json": b"{}" * 5000, WEIGHTS: weights}


@pytest.fixture
def hub(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub(model_files(tiny) | {"pytorch_model.bin": b"pickle" * 9, ".gitattributes": b"x"})) as hub:
        # huggingface_hub reads its variables when it is imported.
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "/nonexistent")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def told() -> list[dict[str, Any]]:
    """What downloads told."""
    return []


@pytest.fixture
def download(tmp_path: Path, told: list[dict[str, Any]]) -> Callable[..., Download]:
    """A download into the cache at `tmp_path`/cache; settings are those of `Cache`; from a hub where not told."""

    def made(
        uri: str = URI, *, origin: Origin | None = None, limit_bytes: int | None = None, **settings: Any
    ) -> Download:
        order = Order(uri=uri, root=tmp_path / "cache", limit_bytes=limit_bytes)
        cache = Cache(order.root, limit_bytes, source=uri, **settings)
        return Download(
            order,
            origin or HubRepository(uri),
            cache,
            lambda event, **fields: told.append({"event": event, **fields}),
            IMPATIENT,
            pause=lambda _: None,
        )

    return made


@pytest.fixture
def brought(download: Callable[..., Download]) -> Iterator[Brought]:
    """Downloads, holds, and returns the folder."""
    holds: list[Hold] = []

    def bring(uri: str = URI, *, keep: bool = False, **settings: Any) -> Path:
        made = download(uri, **settings)
        with made.stored() as key:
            if keep:
                holds.append(made.cache.hold(key))
            return made.cache.model(key)

    yield bring
    for hold in holds:
        hold.close()
