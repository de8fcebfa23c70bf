"""Documents of all sizes in a ConfigMap: text, compressed above what the API server takes, refused where broken."""

import base64
import gzip
import json
import random
from ipaddress import IPv4Address

import pytest

from modelyard_gateway import published
from modelyard_gateway.published import PACKED_KEY, publishable, published_text
from modelyard_gateway.routes import CONFIG_MAP_KEY, Backend, Route, RouteDocument, Server

MEBIBYTE = 1 << 20


def document(services: int) -> str:
    """As of so many services with one replica each, fifty to a RayCluster."""
    backends, routes = [], []
    for number in range(services):
        ray = f"models.cluster-{number // 50:03}-{random.Random(number // 50).randbytes(4).hex()}"
        if number % 50 == 0:
            backends.append((ray, [Server(name=f"{ray}-head", address="10.0.0.1", backup=True)]))
        worker = Server(name=f"{ray}-worker-{number:05}", address=str(IPv4Address(0x0A000000 + number)))
        backends[-1][1].append(worker)
        path = f"/team-{number % 10}/service-{number:05}"
        prefix = f"/_r{path}/{random.Random(number).randbytes(4).hex()}"
        routes.append(Route(path=path, backend=ray, prefix=prefix, servers=(worker.name,)))
    made = tuple(Backend(name=name, servers=tuple(servers)) for name, servers in backends)
    return RouteDocument(backends=made, routes=tuple(routes)).to_json()


def test_a_small_document_stands_as_everybody_can_read_it() -> None:
    text = document(10)
    assert publishable(text) == {"data": {CONFIG_MAP_KEY: text}}
    assert published_text({CONFIG_MAP_KEY: text}, None) == text


@pytest.mark.parametrize("services", [2_500, 5_000, 10_000])
def test_a_large_one_fits_into_what_the_api_server_takes(services: int) -> None:
    text = document(services)
    content = publishable(text)
    assert len(json.dumps(content)) < MEBIBYTE
    assert published_text(content.get("data"), content.get("binaryData")) == text
    packed = base64.b64decode(content["binaryData"][PACKED_KEY]) if "binaryData" in content else b""
    assert packed[4:8] in (b"", bytes(4)), "with the time in it, it would be written again and again"


def test_there_may_be_none() -> None:
    assert published_text(None, None) is None
    assert published_text({"other": "x"}, {"other": "eA=="}) is None


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (base64.b64encode(b"no gzip").decode(), "routes.json.gz of ConfigMap modelyard-routes cannot be unpacked"),
        (base64.b64encode(gzip.compress(b"cut short", mtime=0)[:-9]).decode(), "is cut short"),
        ("abcde", "base64"),
    ],
)
def test_what_cannot_be_unpacked_is_an_error(packed: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        published_text(None, {PACKED_KEY: packed})


def test_what_unpacks_to_too_much_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "_MOST_UNPACKED", 1000)
    packed = base64.b64encode(gzip.compress(b"x" * 1001)).decode()
    with pytest.raises(ValueError, match="more than 64 MB"):
        published_text(None, {PACKED_KEY: packed})
