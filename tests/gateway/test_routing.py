"""Where requests go, and what the gateway answers by itself."""

import json

import pytest
from tests.gateway.world import Gateway, StartNode, backend, refusal, route

from modelyard_gateway.routes import RouteDocument


@pytest.fixture
async def routed(gateway: Gateway, node: StartNode) -> Gateway:
    """team-a/smollm2 and team-b/other are served, team-a/off is refused."""
    worker = await node("worker")
    document = RouteDocument(
        backends=(backend([worker]),),
        routes=(route("/team-a/smollm2"), route("/team-b/other", "bbbb2222")),
        refusals=(
            refusal(
                "/team-a/off", "Suspended", 'team-a/off is "suspended";\nset spec.suspend: false - then \\ it runs'
            ),
        ),
    )
    await gateway.publish(document)
    return gateway


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/team-a/smollm2/v1/chat/completions", "/_r/team-a/smollm2/aaaa1111/v1/chat/completions"),
        ("/team-a/smollm2/v1/x?q=1&r=a/b", "/_r/team-a/smollm2/aaaa1111/v1/x?q=1&r=a/b"),
        ("/team-a/smollm2", "/_r/team-a/smollm2/aaaa1111/"),
        ("/team-a/smollm2/", "/_r/team-a/smollm2/aaaa1111/"),
        ("/team-b/other/v1/models", "/_r/team-b/other/bbbb2222/v1/models"),
        ("/team-a/smollm2/v1/models/team-a%2Fsmollm2", "/_r/team-a/smollm2/aaaa1111/v1/models/team-a%2Fsmollm2"),
        ("/team-a/smollm2/v1/a%20b/%C3%A9", "/_r/team-a/smollm2/aaaa1111/v1/a%20b/%C3%A9"),
        ("/team-a/smollm2/v1/x?next=/../..//", "/_r/team-a/smollm2/aaaa1111/v1/x?next=/../..//"),
    ],
)
async def test_a_path_is_rewritten_to_the_active_revision(routed: Gateway, path: str, target: str) -> None:
    status, answer = await routed.raw(path)
    assert (status, json.loads(answer)["target"]) == (200, target)


async def test_the_answer_names_the_revision_and_the_request(routed: Gateway) -> None:
    _, body, headers = await routed.get("/team-b/other/v1/x", headers={"X-Request-Id": "from-the-client"})
    assert headers["x-modelyard-revision"] == "bbbb2222"
    assert headers["x-request-id"] == "from-the-client" == body["headers"]["x-request-id"]


async def test_a_request_without_a_usable_id_gets_one(routed: Gateway) -> None:
    _, _, first = await routed.get("/team-a/smollm2/v1/x")
    _, body, second = await routed.get("/team-a/smollm2/v1/x", headers={"X-Request-Id": 'a"b'})
    assert len({first["x-request-id"], second["x-request-id"], 'a"b'}) == 3
    assert body["headers"]["x-request-id"] == second["x-request-id"]


async def test_the_replica_learns_who_asks(routed: Gateway) -> None:
    _, body, _ = await routed.get("/team-a/smollm2/v1/x", headers={"X-Forwarded-Proto": "gopher"})
    assert body["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert body["headers"]["x-forwarded-proto"] == "http"


async def test_no_connection_to_a_node_is_kept_for_another_request(routed: Gateway) -> None:
    # Serve's HAProxy closes idle connections when it reloads; what is sent on one just then is lost.
    _, body, _ = await routed.get("/team-a/smollm2/v1/x")
    assert body["headers"]["connection"] == "close"


async def test_a_body_arrives_whole(routed: Gateway) -> None:
    status, body, _ = await routed.request("POST", "/team-a/smollm2/v1/x", data=b"x" * 900_000)
    assert (status, body["body_bytes"]) == (200, 900_000)


async def test_head_is_answered_without_a_body(routed: Gateway) -> None:
    for path, expected in (("/team-a/smollm2/v1/x", 200), ("/team-a/off/v1/x", 503), ("/no/such", 404)):
        assert await routed.raw(path, method="HEAD") == (expected, "")


async def test_an_answer_of_the_replica_is_left_as_it_is(routed: Gateway) -> None:
    status, body, _ = await routed.get("/team-a/smollm2/teapot")
    assert (status, body) == (503, {"from": "the replica"})


async def test_a_refusal_says_why(routed: Gateway) -> None:
    status, body, headers = await routed.get("/team-a/off/v1/chat/completions")
    assert status == 503
    assert headers["content-type"] == "application/json"
    assert int(headers["retry-after"]) > 0
    assert body == {
        "error": {
            "message": 'team-a/off is "suspended";\nset spec.suspend: false - then \\ it runs',
            "type": "service_unavailable",
            "code": "Suspended",
        }
    }


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/team-a/nope/v1/x", "/team-a/nope"),
        ("/team-a", "/team-a"),
        ("/", "/"),
        ("/v1/models", "/v1/models"),
        ('/a"b/c%d', '/a"b/c%d'),
    ],
)
async def test_an_unknown_service_is_named(routed: Gateway, path: str, named: str) -> None:
    status, text = await routed.raw(path)
    error = json.loads(text)["error"]
    assert (status, error["code"], error["type"]) == (404, "service_not_found", "invalid_request_error")
    assert f"answers at {named}:" in error["message"]


async def test_a_very_long_unknown_path_is_answered_too(routed: Gateway) -> None:
    status, text = await routed.raw("/" + "%C3%A9" * 1000 + "x" * 5000 + "/x" * 1000)
    assert (status, json.loads(text)["error"]["code"]) == (404, "service_not_found")


@pytest.mark.parametrize(
    "target",
    [
        "/_r/team-a/smollm2/aaaa1111/v1/x",
        "/_R/team-a/smollm2/aaaa1111/v1/x",
        "//_r/team-a/smollm2/aaaa1111/v1/x",
        "/team-a/smollm2/../../_r/team-b/other/bbbb2222/v1/x",
        "/team-a/smollm2/..",
        "/team-a/smollm2/v1/%2e%2e/%2E%2e/other/x",
        "/team-a/smollm2/.%2e/x",
        "/team-a/smollm2/%2e./x",
        "/team-a/smollm2/..%2fother",
        "/team-a/smollm2/v1%2f..%2f..%2f..%2fother",
        "/team-a/smollm2/%252e%252e/x",
        "/team-a/smollm2/v1/..\\..\\x",
        "/team-a/smollm2/v1/%5c..%5cx",
        "/team-a/smollm2/./v1",
        "/team-a/smollm2//v1/x",
        "/team-a//smollm2/v1/x",
        "/team-a/smollm2/v1/%00x",
        "/team-a/smollm2/v1/%0d%0aHost:x",
        "/TEAM-A/smollm2/v1/x",
        "/team-a/SMOLLM2/v1/x",
        "/team%2Da/smollm2/v1/x",
        "/team-a%2Fsmollm2/v1/x",
        "/team-a/smollm2%2Fv1",
        "http://gateway/_r/team-a/smollm2/aaaa1111/v1/x",
        "http://gateway/team-a/smollm2/../x",
        "*",
        "/team-a/smollm2/-/prove",
        "/team-a/smollm2/-/metrics?x=1",
        "/team-a/smollm2/-",
        "/team-a/smollm2/-/",
        "/team-a/smollm2/%2d/prove",
        "/team-a/smollm2/-%2fprove",
        "/team-a/smollm2/%2f-/prove",
        "/team-a/smollm2//-/prove",
        "/team-a/smollm2/./-/prove",
        "/-/healthz",
        "/-/routes",
        "/team-a/off/../smollm2/v1",
    ],
)
async def test_no_path_leads_anywhere_else(routed: Gateway, target: str) -> None:
    status, text = await routed.raw(target)
    assert status in {400, 404}, text
    assert json.loads(text)["error"]["type"] == "invalid_request_error"


async def test_an_absolute_form_stays_within_its_service(routed: Gateway) -> None:
    status, text = await routed.raw("http://gateway/team-a/smollm2/v1/x")
    assert status == 200
    assert json.loads(text)["target"].endswith("/_r/team-a/smollm2/aaaa1111/v1/x")


@pytest.mark.parametrize(
    "header",
    ["Content-Length: many", "Transfer-Encoding: chunked, gzip", "Host: another", "X-Big: " + "x" * 20_000],
)
async def test_what_is_no_good_http_goes_no_further(routed: Gateway, header: str) -> None:
    status, _ = await routed.raw("/team-a/smollm2/v1/x", header)
    assert status == 400
