"""The clients of Ray, replicas and gateways against servers that answer as those do, well and badly."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from modelyard_operator.gateway.http_client import HttpGatewayClient
from modelyard_operator.observed.downloads import Download
from modelyard_operator.ray import http_client
from modelyard_operator.ray.client import ConfigRefused, ServeUnreachable
from modelyard_operator.ray.http_client import HttpProber, HttpServeClients
from modelyard_serving.contract import Proof, StartLedger

NOBODY = "127.0.0.1:1"
PREFIX = "/_r/team/x/0123abcd"
PROOF = Proof(
    service="team/x",
    revision="0123abcd",
    seconds=0.25,
    tokens=1,
    start=StartLedger(imports_s=1.5, load_s=2, warmup_s=0.5),
)


class Server:
    """Answers every request alike, and remembers what it was asked."""

    def __init__(self) -> None:
        self.code = 200
        self.text = "{}"
        self.delay_s = 0.0
        self.asked: list[tuple[str, str, str | None, Any]] = []
        self.address = ""

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path, request.headers.get("Authorization"), body))
        await asyncio.sleep(self.delay_s)
        return web.Response(status=self.code, text=self.text)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.address = f"127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def test_serve_details_are_asked_for_with_the_clusters_token(
    server: Server, session: aiohttp.ClientSession
) -> None:
    server.text = '{"applications": {}}'
    assert await HttpServeClients(session).client(server.address, "secret").details() == {"applications": {}}
    assert server.asked == [("GET", "/api/serve/applications/", "Bearer secret", None)]


async def test_the_same_answer_is_not_parsed_again_and_another_one_is(
    server: Server, session: aiohttp.ClientSession
) -> None:
    clients = HttpServeClients(session)
    server.text = '{"applications": {"a": {}}}'
    first = await clients.client(server.address, "t").details()
    assert await clients.client(server.address, "t").details() is first
    server.text = '{"applications": {"b": {}}}'
    assert await clients.client(server.address, "t").details() == {"applications": {"b": {}}}
    server.text = "<html>"
    with pytest.raises(ServeUnreachable):
        await clients.client(server.address, "t").details()


def details(applications: dict[str, Any], at: float) -> dict[str, Any]:
    """As Ray 2.60 orders them: how the controller fares comes last but one."""
    return {
        "proxies": {},
        "applications": applications,
        "target_groups": [],
        "controller_health_metrics": {"timestamp": at, "loop_duration_s": {"mean": at / 7}},
        "restores_unset_config_options": True,
    }


def test_how_the_controller_fares_makes_no_other_answer() -> None:
    answers, here = http_client._Answers(), {"a": {"status": "RUNNING"}}
    first = answers.read("head", json.dumps(details(here, 1.0)))
    assert first is not None
    assert first["applications"] == here
    assert answers.read("head", json.dumps(details(here, 2.5))) is first
    gone = answers.read("head", json.dumps(details({"a": {"status": "DELETING"}}, 2.5)))
    assert gone is not None
    assert gone["applications"] == {"a": {"status": "DELETING"}}


@pytest.mark.parametrize(
    "text",
    [
        '{"x": 1, "controller_health_metrics": {"timestamp": 1}, "applications": {"a": %s}}',
        '{"applications": {"a": {"x": 1, "controller_health_metrics": {}, "y": %s}}}',
        '{"applications": {"a": 1}, "controller_health_metrics": {}, "x": {"applications": 1}, "applications": %s}',
    ],
)
def test_what_follows_such_words_elsewhere_counts(text: str) -> None:
    answers = http_client._Answers()
    for value in (1, 2):
        assert answers.read("head", text % value) == json.loads(text % value)


def test_the_answers_of_few_heads_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_REMEMBERED", 2)
    answers = http_client._Answers()
    texts = {url: f'{{"{url}": 1}}' for url in ("a", "b", "c")}
    first = {url: answers.read(url, text) for url, text in texts.items()}
    assert [answers.read(url, texts[url]) is first[url] for url in ("c", "b")] == [True, True]
    assert answers.read("a", texts["a"]) is not first["a"]


@pytest.mark.parametrize(("code", "text"), [(503, "GCS may be down"), (401, "no token"), (200, "<html>"), (200, "[]")])
async def test_details_that_cannot_be_had_are_unreachable(
    server: Server, session: aiohttp.ClientSession, code: int, text: str
) -> None:
    server.code, server.text = code, text
    with pytest.raises(ServeUnreachable, match="api/serve/applications"):
        await HttpServeClients(session).client(server.address, "t").details()


async def test_each_put_ends_in_one_of_three_ways(server: Server, session: aiohttp.ClientSession) -> None:
    outcomes: list[str] = []
    client = HttpServeClients(session, outcomes.append).client(server.address, "t")
    await client.put({"applications": []})
    server.code, server.text = 400, "applications.0.name: Field required"
    with pytest.raises(ConfigRefused, match="Field required"):
        await client.put({"applications": [{}]})
    server.code = 500
    with pytest.raises(ServeUnreachable):
        await client.put({"applications": []})
    with pytest.raises(ServeUnreachable):
        await HttpServeClients(session, outcomes.append).client(NOBODY, "t").put({})
    assert outcomes == ["ok", "refused", "unreachable", "unreachable"]
    assert server.asked[0] == ("PUT", "/api/serve/applications/", "Bearer t", {"applications": []})


async def test_the_token_is_in_no_message(session: aiohttp.ClientSession) -> None:
    with pytest.raises(ServeUnreachable) as raised:
        await HttpServeClients(session).client(NOBODY, "secret").details()
    assert "secret" not in str(raised.value)


async def test_a_proof_brings_the_replicas_ledger(server: Server, session: aiohttp.ClientSession) -> None:
    server.text = PROOF.model_dump_json()
    proof = await HttpProber(session).prove(server.address, PREFIX, timeout_s=5)
    assert proof.ok
    assert proof.seconds == 0.25
    assert proof.ledger == {"imports": 1.5, "load": 2, "warmup": 0.5}
    assert server.asked[0][1] == f"{PREFIX}/-/prove"


@pytest.mark.parametrize(
    ("code", "text", "message"),
    [
        (503, '{"error": {"message": "no proof: NaN logits"}}', "no proof: NaN logits"),
        (404, "Not Found", "answered 404: Not Found"),
        (200, "hello", "answered with no proof: hello"),
        (200, PROOF.model_copy(update={"revision": "ffffffff"}).model_dump_json(), "revision ffffffff of team/x"),
    ],
)
async def test_whatever_else_is_answered_is_no_proof(
    server: Server, session: aiohttp.ClientSession, code: int, text: str, message: str
) -> None:
    server.code, server.text = code, text
    proof = await HttpProber(session).prove(server.address, PREFIX, timeout_s=5)
    assert not proof.ok
    assert message in proof.message


async def test_a_pods_numbers_say_how_far_a_download_is(server: Server, session: aiohttp.ClientSession) -> None:
    labels = 'service="team/x",revision="0123abcd"'
    server.text = f"ray_modelyard_download_bytes{{{labels}}} 10\nray_modelyard_download_done_bytes{{{labels}}} 4\n"
    assert await HttpProber(session).download(server.address, "team/x", "0123abcd") == Download(10, 4)
    assert server.asked[0][1] == "/metrics"
    assert await HttpProber(session).download(NOBODY, "team/x", "0123abcd") is None
    server.text = "#" * http_client.MAX_METRICS_BYTES + "\n" + server.text
    assert await HttpProber(session).download(server.address, "team/x", "0123abcd") is None


async def test_no_answer_is_no_proof_either(server: Server, session: aiohttp.ClientSession) -> None:
    server.delay_s = 0.2
    late = await HttpProber(session).prove(server.address, PREFIX, timeout_s=0.05)
    assert (late.ok, late.message) == (False, "no answer within 0.05 s")
    assert not (await HttpProber(session).prove(NOBODY, PREFIX, timeout_s=5)).ok


@pytest.mark.parametrize(
    ("code", "text", "version"),
    [
        (200, '{"version": "abc"}', "abc"),
        (200, '{"version": null}', None),
        (200, "[]", None),
        (200, "<html>", None),
        (503, '{"version": "abc"}', None),
    ],
)
async def test_a_gateway_has_a_version_only_if_it_says_so(
    server: Server, session: aiohttp.ClientSession, code: int, text: str, version: str | None
) -> None:
    server.code, server.text = code, text
    host, port = server.address.split(":")
    assert await HttpGatewayClient(session, int(port)).applied_version(host) == version
    assert server.asked[0][1] == "/status"


async def test_a_gateway_that_does_not_answer_has_none(session: aiohttp.ClientSession) -> None:
    assert await HttpGatewayClient(session, 1).applied_version("127.0.0.1") is None
    assert await HttpGatewayClient(session, 1).applied_version("::1") is None
