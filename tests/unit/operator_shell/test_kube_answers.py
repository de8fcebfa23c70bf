"""The client against an API server of a few lines: pages, expired lists, errors, renewed credentials."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.request import getproxies_environment

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from modelyard_operator.kube.aio_client import LIST_ATTEMPTS, AioKubeClient, configuration
from modelyard_operator.kube.client import CONFIG_MAP, NODE, POD, RAY_CLUSTER
from modelyard_operator.kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    KindAbsent,
    KubeError,
    Unavailable,
)

OBJECT = {"metadata": {"name": "x", "namespace": "team", "managedFields": [{"manager": "kubectl"}]}}


class Server:
    """Answers with what the test puts into `answers`, and remembers the requests."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self.observed: list[tuple[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        text = await request.text()
        self.bodies.append(json.loads(text) if text else None)
        code, body = self.answers.pop(0)
        return web.Response(status=code, text=body if isinstance(body, str) else json.dumps(body))

    @property
    def paths(self) -> list[str]:
        return [request.path_qs for request in self.requests]


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def kube(server: Server) -> AsyncIterator[AioKubeClient]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    configuration = Configuration(host=f"http://127.0.0.1:{port}")
    configuration.api_key["BearerToken"] = "bearer first"
    async with ApiClient(configuration) as api:
        yield AioKubeClient(api, observe=lambda verb, code: server.observed.append((verb, code)))
    await runner.cleanup()


def status(code: int, reason: str, **details: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "reason": reason, "message": f"says {reason}", "details": details}


def page(*names: str, more: str = "") -> tuple[int, dict[str, Any]]:
    return 200, {"metadata": {"continue": more}, "items": [{"metadata": {"name": name}} for name in names]}


async def test_a_list_is_all_its_pages(kube: AioKubeClient, server: Server) -> None:
    server.answers = [page("a", "b", more="t 1"), page("c", more="t2"), page("d")]
    items = await kube.list(POD, namespace="team", labels="app=x,y")
    assert [item["metadata"]["name"] for item in items] == ["a", "b", "c", "d"]
    assert {(item["apiVersion"], item["kind"]) for item in items} == {("v1", "Pod")}
    assert {request.path for request in server.requests} == {"/api/v1/namespaces/team/pods"}
    first = {"limit": "500", "labelSelector": "app=x,y"}
    asked = [dict(request.query) for request in server.requests]
    assert asked == [first, {**first, "continue": "t 1"}, {**first, "continue": "t2"}]


async def test_a_list_that_expires_in_the_middle_begins_anew(kube: AioKubeClient, server: Server) -> None:
    server.answers = [page("a", more="t"), status(410, "Expired"), page("b", more="t"), page("c")]
    assert [item["metadata"]["name"] for item in await kube.list(POD)] == ["b", "c"]
    assert "continue" not in server.paths[2]


async def test_a_list_that_always_expires_is_an_error_never_a_part(kube: AioKubeClient, server: Server) -> None:
    server.answers = [page("a", more="t"), status(410, "Expired")] * LIST_ATTEMPTS
    with pytest.raises(Unavailable):
        await kube.list(POD)
    assert server.answers == []


async def test_a_page_that_fails_fails_the_list(kube: AioKubeClient, server: Server) -> None:
    server.answers = [page("a", more="t"), status(500, "InternalError")]
    with pytest.raises(Unavailable):
        await kube.list(POD)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(401, "Unauthorized"), Forbidden),
        (status(403, "Forbidden", name="x"), Forbidden),
        (status(404, "NotFound", name="x"), Conflict),
        ((404, "404 page not found"), KindAbsent),
        (status(409, "Conflict", name="x"), Conflict),
        (status(409, "AlreadyExists", name="x"), AlreadyExists),
        (status(422, "Invalid", name="x"), Invalid),
        (status(400, "BadRequest"), Invalid),
        (status(413, "RequestEntityTooLarge"), Invalid),
        (status(429, "TooManyRequests"), Unavailable),
        (status(500, "InternalError"), Unavailable),
        ((503, "no backend"), Unavailable),
        ((500, {"message": "failed to create typed patch object (...): .spec.x: field not declared"}), Invalid),
    ],
)
async def test_each_refusal_is_an_error_that_says_what_to_do(
    kube: AioKubeClient, server: Server, answer: tuple[int, Any], error: type[KubeError]
) -> None:
    server.answers = [answer]
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "team"}}
    with pytest.raises(KubeError) as raised:
        await kube.apply(manifest)
    assert type(raised.value) is error
    assert "ConfigMap" in str(raised.value)


async def test_an_apply_carries_manager_force_and_strictness(kube: AioKubeClient, server: Server) -> None:
    server.answers = [(200, OBJECT)] * 2
    manifest = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "x", "namespace": "team"}}
    stored = await kube.apply(manifest)
    await kube.apply_status({**manifest, "status": {"a": 1}})
    path = "/apis/ray.io/v1/namespaces/team/rayclusters/x"
    query = "fieldManager=modelyard-operator&force=true&fieldValidation=Strict"
    assert server.paths == [f"{path}?{query}", f"{path}/status?{query}"]
    assert {request.content_type for request in server.requests} == {"application/apply-patch+yaml"}
    assert server.bodies[0] == manifest
    assert "managedFields" not in stored["metadata"]


async def test_absence_of_an_object_is_no_error_but_absence_of_its_kind_is(kube: AioKubeClient, server: Server) -> None:
    server.answers = [status(404, "NotFound", name="x"), (404, "404 page not found")]
    assert await kube.get(RAY_CLUSTER, "x", namespace="team") is None
    with pytest.raises(KindAbsent):
        await kube.get(RAY_CLUSTER, "x", namespace="team")


async def test_a_deletion_that_finds_another_object_deletes_nothing(kube: AioKubeClient, server: Server) -> None:
    server.answers = [status(409, "Conflict", name="x"), status(404, "NotFound", name="x"), (200, OBJECT)]
    assert not await kube.delete(CONFIG_MAP, "x", namespace="team", uid="u1")
    assert not await kube.delete(CONFIG_MAP, "x", namespace="team")
    assert await kube.delete(CONFIG_MAP, "x", namespace="team", uid="u1")
    assert server.bodies[0]["preconditions"] == {"uid": "u1"}
    assert server.bodies[0]["propagationPolicy"] == "Background"


async def test_each_request_carries_the_token_of_its_moment(kube: AioKubeClient, server: Server) -> None:
    server.answers = [(200, OBJECT)] * 2
    await kube.get(NODE, "x")
    kube._api.configuration.api_key["BearerToken"] = "bearer renewed"
    await kube.get(NODE, "x")
    assert [request.headers["Authorization"] for request in server.requests] == ["bearer first", "bearer renewed"]
    credentials = await kube.credentials()
    assert credentials.token == "renewed"
    assert "renewed" not in repr(credentials)


async def test_requests_are_observed_by_verb_and_code(kube: AioKubeClient, server: Server) -> None:
    server.answers = [(200, OBJECT), status(404, "NotFound", name="x")]
    await kube.get(NODE, "x")
    await kube.get(NODE, "x")
    assert server.observed == [("get", "200"), ("get", "404")]


async def test_without_an_answer_the_api_server_is_unavailable() -> None:
    observed: list[tuple[str, str]] = []
    async with ApiClient(Configuration(host="http://127.0.0.1:1")) as api:
        kube = AioKubeClient(api, observe=lambda verb, code: observed.append((verb, code)))
        with pytest.raises(Unavailable, match="/api/v1/nodes/x"):
            await kube.get(NODE, "x")
    assert observed == [("get", "none")]


async def test_a_namespaced_object_needs_a_namespace(kube: AioKubeClient) -> None:
    with pytest.raises(ValueError, match="Pod x: a namespace is needed"):
        await kube.get(POD, "x")


@pytest.mark.parametrize("proxy", ["", "http://proxy:3128"])
async def test_the_environment_is_asked_at_each_request_only_where_it_names_a_proxy(
    proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(getproxies_environment()):
        for spelled in (f"{name}_proxy", f"{name}_PROXY".upper()):
            monkeypatch.delenv(spelled, raising=False)
    if proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
    kubeconfig = tmp_path / "config"
    named = {"name": "x"}
    kubeconfig.write_text(
        json.dumps(
            {
                "current-context": "x",
                "clusters": [{**named, "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{**named, "user": {}}],
                "contexts": [{**named, "context": {"cluster": "x", "user": "x"}}],
            }
        )
    )
    found = await configuration(kubeconfig, context=None)
    assert found.client_session_kwargs == {"trust_env": bool(proxy)}
