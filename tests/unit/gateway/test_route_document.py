import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from modelyard_gateway.routes import CONFIG_MAP_KEY, MOST_OWN_SERVERS, Backend, Refusal, Route, RouteDocument, Server

RELEASES = Path(__file__).parents[1] / "inert" / "releases"
DOCUMENT = RouteDocument(
    backends=(Backend(name="team-a.ray", servers=(Server(name="pod", address="10.0.0.1"),)),),
    routes=(Route(path="/team-a/one", backend="team-a.ray", prefix="/_r/team-a/one/0123abcd"),),
    refusals=(Refusal(path="/team-a/two", reason="Suspended", message="by its owner"),),
)


def with_true_version(data: dict[str, Any]) -> str:
    """The text of a document whose fields may be wrong, but whose version is that of its content."""
    content = {key: value for key, value in data.items() if key != "version"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "version": hashlib.sha256(canonical.encode()).hexdigest()[:16]})


def test_a_document_survives_its_text() -> None:
    assert RouteDocument.from_json(DOCUMENT.to_json()) == DOCUMENT


def test_the_first_release_and_this_one_read_each_others_documents_of_schema_1() -> None:
    """It took a document only with the fields that it knew, and with the version that it made of them itself."""
    [entry] = json.loads((RELEASES / "0.1.0" / "ConfigMap.json").read_text())
    text = entry["object"]["data"][CONFIG_MAP_KEY]
    document = RouteDocument.from_json(text)
    assert document.routes
    assert document.to_json() == text


def test_the_version_is_of_the_content() -> None:
    same = RouteDocument.model_validate(DOCUMENT.model_dump())
    other = DOCUMENT.model_copy(update={"refusals": ()})
    assert same.version == DOCUMENT.version != other.version


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("routes", 0, "path"), "/team-a/one|x", "path"),
        (("routes", 0, "path"), "/team-a/one/two", "path"),
        (("routes", 0, "path"), "/_r/one", "path"),
        (("routes", 0, "prefix"), "/team-a/one", "prefix"),
        (("routes", 0, "prefix"), "/_r/team-a/one/x y", "prefix"),
        (("routes", 0, "prefix"), "/_r/team-a/../one", "prefix"),
        (("routes", 0, "timeout_s"), 100_000, "timeout_s"),
        (("routes", 0, "servers"), ["pod"] * (MOST_OWN_SERVERS + 1), "servers"),
        (("schema_version",), 3, "schema_version"),
        (("routes", 0, "backend"), "team-a.other", "team-a.other, which is not in the document"),
        (("backends", 0, "name"), "team-a.ray\n    server evil 6.6.6.6:80", "name"),
        (("backends", 0, "name"), "gateway", "name"),
        (("backends", 0, "servers", 0, "address"), "localhost", "address"),
        (("backends", 0, "servers", 0, "address"), "10.0.0.256", "server pod of backend team-a.ray"),
        (("backends", 0, "servers", 0, "port"), 0, "port"),
        (("refusals", 0, "path"), "/team-a/one", "path /team-a/one is given more than once"),
        (("refusals", 0, "reason"), "no reason", "reason"),
    ],
)
def test_a_wrong_field_is_named(where: tuple[str | int, ...], value: object, message: str) -> None:
    data: Any = json.loads(DOCUMENT.to_json())
    target = data
    for step in where[:-1]:
        target = target[step]
    target[where[-1]] = value
    with pytest.raises(ValueError, match=re.escape(message)):
        RouteDocument.from_json(with_true_version(data))
