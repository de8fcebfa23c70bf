"""The log of a pod's container, line by line: the one thing that the operator never asks for."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from kubernetes.aio.client import ApiClient

from modelyard_operator.kube.aio_client import object_path
from modelyard_operator.kube.client import POD
from modelyard_operator.kube.errors import Forbidden, Unavailable

CONNECT_TIMEOUT_S = 30.0
_NOTHING_YET = frozenset({204, 400, 404})
"""What the API server answers without a node, before the container has started, and when the pod is gone."""


@dataclass(frozen=True)
class PodName:
    """A pod's container."""

    namespace: str
    name: str
    container: str


@dataclass(frozen=True)
class LogLine:
    """A line and when the kubelet took it: RFC 3339 with nanoseconds, so that texts compare as times."""

    stamp: str
    text: str


class PodLogs(Protocol):
    """Reads logs of containers."""

    def lines(self, pod: PodName, *, since: str | None, follow: bool) -> AsyncIterator[LogLine]:
        """The lines from `since` (RFC 3339) on, and with `follow` those to come until the connection ends.

        Nothing where the pod has not started or is gone.

        Raises:
            Forbidden: the user may not read it.
            Unavailable: the API server or the kubelet does not answer.
        """


class KubePodLogs:
    """`PodLogs` from the API server."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def lines(self, pod: PodName, *, since: str | None, follow: bool) -> AsyncIterator[LogLine]:
        query = {"container": pod.container, "timestamps": "true", "follow": str(follow).lower()}
        if since is not None:
            query["sinceTime"] = since
        try:
            response = await self._request(pod, query)
            async with response:
                if response.status in _NOTHING_YET:
                    return
                if response.status != 200:
                    raise _error(response.status, f"logs of pod {pod.namespace}/{pod.name}: {await response.text()}")
                async for line in _split(response.content.iter_any()):
                    stamp, _, text = line.partition(" ")
                    yield LogLine(stamp, text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            cause = str(error) or type(error).__name__
            raise Unavailable(f"logs of pod {pod.namespace}/{pod.name}: {cause}") from error

    async def _request(self, pod: PodName, query: dict[str, str]) -> aiohttp.ClientResponse:
        method, url, headers, body, _ = await self._api.param_serialize(
            "GET",
            f"{object_path(POD, pod.name, pod.namespace)}/log",
            query_params=list(query.items()),
            header_params={"Accept": "*/*"},
            auth_settings=["BearerToken"],
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
        answer = await self._api.call_api(method, url, headers, body, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        return response


def _error(status: int, text: str) -> Forbidden | Unavailable:
    return Forbidden(f"{text} ({status})") if status in (401, 403) else Unavailable(f"{text} ({status})")


async def _split(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Lines of any length; the last one also where its end is missing."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")
