"""`KubeClient` on `kubernetes.aio`, the official async client.

Requests are built here instead of by the client's generated or dynamic API: a few verbs on plain data need
neither models nor discovery. The client brings what is hard: kubeconfig, tokens and their renewal, TLS.
"""

import asyncio
import builtins
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import getproxies_environment

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

from modelyard_operator.kube.client import Kind, Manifest, kind_of
from modelyard_operator.kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    KindAbsent,
    KubeError,
    Unavailable,
)

FIELD_MANAGER = "modelyard-operator"
PAGE_SIZE = 500
REQUEST_TIMEOUT_S = 30.0
CONCURRENT_REQUESTS = 20
LIST_ATTEMPTS = 3
"""How often a LIST begins anew when its continue token expires between two pages."""

_UNTYPED = "failed to create typed patch object"
"""How the API server refuses an apply with a field its schema lacks: with a 500, though it is for good."""

RequestObserver = Callable[[str, str], None]
"""Told the verb and the status code (`none` without an answer) of each request."""


@dataclass(frozen=True)
class _Answer:
    """What the API server said: a status code and either an object or a text."""

    code: int
    body: Mapping[str, Any]
    text: str

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))

    @property
    def names_an_object(self) -> bool:
        """A 404 on an object comes with a Status that names it; one on a path that is not served does not."""
        return bool((self.body.get("details") or {}).get("name"))


@dataclass(frozen=True)
class _Request:
    verb: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content_type: str = "application/json"


@dataclass(frozen=True)
class Credentials:
    """How to reach and convince the API server, for who else must."""

    server: str
    ca_path: str | None
    insecure: bool
    certificate_path: str | None
    private_key_path: str | None
    token: str | None = field(repr=False)


@asynccontextmanager
async def connect(
    kubeconfig: Path | None = None, *, context: str | None = None, observe: RequestObserver | None = None
) -> AsyncIterator["AioKubeClient"]:
    """A client for the cluster that this pod runs in, or else for `kubeconfig` (None: as kubectl does)."""
    async with ApiClient(await configuration(kubeconfig, context=context)) as api:
        yield AioKubeClient(api, observe=observe)


def is_in_cluster(kubeconfig: Path | None, context: str | None) -> bool:
    """Whether the pod's own service account is to be used: it is a pod, and nobody named anything else."""
    return kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ


async def configuration(kubeconfig: Path | None, *, context: str | None) -> Configuration:
    """Address and credentials for `connect`; `ConfigException` where there are none."""
    configured = Configuration()
    if is_in_cluster(kubeconfig, context):
        load_incluster_config(client_configuration=configured)
    else:
        file = str(kubeconfig) if kubeconfig is not None else None
        await load_kube_config(config_file=file, context=context, client_configuration=configured, persist_config=False)
    # Otherwise each request would look for .netrc and for proxies anew, in a thread.
    configured.client_session_kwargs = {"trust_env": bool(getproxies_environment())}
    return configured


class AioKubeClient:
    """The operator's way to the API server; see `kube.client.KubeClient` for the contract."""

    def __init__(self, api: ApiClient, *, observe: RequestObserver | None = None) -> None:
        self._api = api
        self._observe = observe or (lambda verb, code: None)
        self._slots = asyncio.Semaphore(CONCURRENT_REQUESTS)

    async def credentials(self) -> Credentials:
        """What this client itself uses at this moment; service account tokens are renewed."""
        configuration = self._api.configuration
        bearer = await configuration.get_api_key_with_prefix("BearerToken")
        return Credentials(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            token=bearer.split(" ", 1)[-1].strip() if bearer else None,
        )

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Manifest | None:
        answer = await self._send(_Request("get", "GET", object_path(kind, name, namespace)))
        if answer.code == 404 and answer.names_an_object:
            return None
        return cleaned(_checked(answer, f"get {kind.kind} {name}"), kind)

    async def list(self, kind: Kind, *, namespace: str | None = None, labels: str | None = None) -> Sequence[Manifest]:
        for _ in range(LIST_ATTEMPTS):
            items = await self._pages(kind, namespace, labels)
            if items is not None:
                return items
        raise Unavailable(f"list {kind.kind}: the list expired {LIST_ATTEMPTS} times before its last page")

    async def _pages(self, kind: Kind, namespace: str | None, labels: str | None) -> builtins.list[Manifest] | None:
        """All pages of one LIST, or None where the API server has forgotten it in the middle."""
        query = {"limit": str(PAGE_SIZE)}
        if labels:
            query["labelSelector"] = labels
        items: list[Manifest] = []
        while True:
            answer = await self._send(_Request("list", "GET", collection_path(kind, namespace), query))
            if answer.code == 410 and "continue" in query:
                return None
            page = _checked(answer, f"list {kind.kind}")
            items += [cleaned(item, kind) for item in page.get("items") or []]
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return items
            query["continue"] = token

    async def apply(self, manifest: Manifest) -> Manifest:
        return await self._apply(manifest, subresource="")

    async def apply_status(self, manifest: Manifest) -> Manifest:
        return await self._apply(manifest, subresource="/status")

    async def _apply(self, manifest: Manifest, *, subresource: str) -> Manifest:
        kind = kind_of(manifest)
        name, namespace = _names(manifest)
        path = object_path(kind, name, namespace) + subresource
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        request = _Request("apply", "PATCH", path, query, manifest, "application/apply-patch+yaml")
        answer = await self._send(request)
        return cleaned(_checked(answer, f"apply {kind.kind}{subresource} {name}"), kind)

    async def set_finalizers(self, manifest: Manifest, finalizers: Sequence[str]) -> None:
        kind = kind_of(manifest)
        name, namespace = _names(manifest)
        version = manifest["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version, "finalizers": [*finalizers]}}
        path = object_path(kind, name, namespace)
        query = {"fieldManager": FIELD_MANAGER}
        answer = await self._send(_Request("patch", "PATCH", path, query, body, "application/merge-patch+json"))
        _checked(answer, f"set the finalizers of {kind.kind} {name}")

    async def delete(self, kind: Kind, name: str, *, namespace: str | None = None, uid: str | None = None) -> bool:
        body: dict[str, Any] = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
        }
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        answer = await self._send(_Request("delete", "DELETE", object_path(kind, name, namespace), body=body))
        if (answer.code == 404 and answer.names_an_object) or (answer.code == 409 and uid is not None):
            return False
        _checked(answer, f"delete {kind.kind} {name}")
        return True

    async def create(self, manifest: Manifest) -> Manifest:
        kind = kind_of(manifest)
        name, namespace = _names(manifest)
        query = {"fieldManager": FIELD_MANAGER}
        answer = await self._send(_Request("create", "POST", collection_path(kind, namespace), query, manifest))
        return cleaned(_checked(answer, f"create {kind.kind} {name}"), kind)

    async def _send(self, request: _Request) -> _Answer:
        """One request and its answer, whatever it says; Unavailable where none comes."""
        code = "none"
        try:
            # Waiting for a slot counts too: behind a silent API server a queue must not outlast the liveness probe.
            async with asyncio.timeout(REQUEST_TIMEOUT_S), self._slots:
                answer = await self._exchange(request)
            code = str(answer.code)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            cause = str(error) or type(error).__name__
            raise Unavailable(f"{request.verb} {request.path}: {cause}") from error
        finally:
            self._observe(request.verb, code)
        return answer

    async def _exchange(self, request: _Request) -> _Answer:
        headers = {"Accept": "application/json", "Content-Type": request.content_type}
        # Without the body, which is plain data: it would be walked through for models.
        method, url, headers, _, _ = await self._api.param_serialize(
            request.method,
            request.path,
            query_params=list(request.query.items()),
            header_params=headers,
            auth_settings=["BearerToken"],
        )
        response = await self._api.call_api(
            method, url, headers, request.body, _request_timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        )
        raw = await response.read()
        return _answer(response.status, raw)


def collection_path(kind: Kind, namespace: str | None) -> str:
    """The path of all objects of a kind, in one namespace or in all."""
    root = f"/apis/{kind.api_version}" if "/" in kind.api_version else f"/api/{kind.api_version}"
    if kind.namespaced and namespace:
        return f"{root}/namespaces/{quote(namespace, safe='')}/{kind.plural}"
    return f"{root}/{kind.plural}"


def object_path(kind: Kind, name: str, namespace: str | None) -> str:
    """The path of one object; ValueError where its kind needs a namespace and none is given."""
    if kind.namespaced and not namespace:
        raise ValueError(f"{kind.kind} {name}: a namespace is needed")
    return f"{collection_path(kind, namespace)}/{quote(name, safe='')}"


def _names(manifest: Manifest) -> tuple[str, str | None]:
    metadata = manifest["metadata"]
    return metadata["name"], metadata.get("namespace")


def _answer(code: int, raw: bytes) -> _Answer:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if isinstance(body, dict):
        return _Answer(code, body, str(body.get("message", "")))
    return _Answer(code, {}, raw[:500].decode(errors="replace").strip())


def cleaned(item: Mapping[str, Any], kind: Kind) -> Manifest:
    """The object with its kind, which LISTs leave out, and without its field managers, which nobody reads."""
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    return {**item, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def _checked(answer: _Answer, what: str) -> Mapping[str, Any]:
    """The object in a good answer; a bad one becomes the error that says what to do about it."""
    if answer.code < 300:
        return answer.body
    raise _error_class(answer)(f"{what}: {answer.text or 'no message'} ({answer.code})")


def _error_class(answer: _Answer) -> type[KubeError]:
    code = answer.code
    if code == 409:
        return AlreadyExists if answer.reason == "AlreadyExists" else Conflict
    if code == 404:
        # A write to an object that has gone meanwhile: its writer must look again.
        return Conflict if answer.names_an_object else KindAbsent
    if code in (401, 403):
        return Forbidden
    if _UNTYPED in answer.text:
        return Invalid
    if code in (410, 429) or code >= 500:
        return Unavailable
    return Invalid
