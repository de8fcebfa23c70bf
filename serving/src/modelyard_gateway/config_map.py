"""Route documents from the ConfigMap that the operator writes."""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from kubernetes.aio import client

from modelyard_gateway.published import published_text
from modelyard_gateway.routes import CONFIG_MAP

logger = logging.getLogger(__name__)

_WATCH_S = 240
"""Seconds after which the API server ends a watch: a connection that died unnoticed is not waited on for ever."""
_LONGEST_PAUSE_S = 15.0
_BETWEEN_WATCHES_S = 0.1
_FAILURES = (client.ApiException, aiohttp.ClientError, OSError, ValueError)
"""What an API server does that is down, starting, overloaded or behind a proxy; a line cut short is a ValueError."""


class ConfigMapSource:
    """Lists and watches the one ConfigMap."""

    def __init__(self, *, namespace: str, api: client.CoreV1Api, first_pause_s: float = 0.5) -> None:
        self._api = api
        self._selected = {"namespace": namespace, "field_selector": f"metadata.name={CONFIG_MAP}"}
        self._first_pause_s = first_pause_s

    async def documents(self) -> AsyncIterator[str]:
        """List and watch; after an error again, with a pause that grows to 15 s.

        A ConfigMap that is deleted changes nothing: the gateway goes on with what it has.
        """
        failures = 0
        while True:
            try:
                async for text in self._listed_and_watched():
                    failures = 0
                    yield text
            except _FAILURES as error:
                logger.warning("cannot read ConfigMap %s: %s", CONFIG_MAP, _one_line(error))
                pause = min(_LONGEST_PAUSE_S, self._first_pause_s * 2 ** min(failures, 10))
                failures += 1
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _listed_and_watched(self) -> AsyncIterator[str]:
        """One LIST and the watches that continue it, until one fails."""
        listed = await self._api.list_namespaced_config_map(**self._selected, _request_timeout=30)
        for item in listed.items:
            if text := published_text(item.data, item.binary_data):
                yield text
        resource_version = listed.metadata.resource_version
        while True:
            async for event in self._watched(resource_version):
                found = event["object"]
                resource_version = found["metadata"]["resourceVersion"]
                if event["type"] in {"ADDED", "MODIFIED"} and (
                    text := published_text(found.get("data"), found.get("binaryData"))
                ):
                    yield text
            await asyncio.sleep(_BETWEEN_WATCHES_S)

    async def _watched(self, resource_version: str) -> AsyncIterator[dict[str, Any]]:
        """The events of one watch.

        Raises:
            ApiException: refused, or ended by an ERROR event such as 410 for a version that is too old.
        """
        response = await self._api.list_namespaced_config_map_without_preload_content(
            **self._selected,
            watch=True,
            allow_watch_bookmarks=True,
            resource_version=resource_version,
            timeout_seconds=_WATCH_S,
            _request_timeout=_WATCH_S + 30,
        )
        try:
            if response.status != 200:
                raise client.ApiException(status=response.status, reason=response.reason)
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise client.ApiException(status=event["object"]["code"], reason=event["object"]["message"])
                yield event
        finally:
            response.close()


def _one_line(error: Exception) -> str:
    if isinstance(error, client.ApiException):
        return f"{error.status} {error.reason}"
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
