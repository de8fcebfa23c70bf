"""Where route documents come from, and where the last good one is kept."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from kubernetes.aio import client, watch

from modelyard_gateway.routes import CONFIG_MAP, CONFIG_MAP_KEY, RouteDocument

logger = logging.getLogger(__name__)

_WATCH_S = 240
"""Seconds after which the API server ends a watch: a connection that died unnoticed is not waited on for ever."""
_LONGEST_PAUSE_S = 15.0
_GONE = 410


class DocumentSource(Protocol):
    """Yields the text of the route document: where there is one, and whenever it may have changed."""

    def documents(self) -> AsyncIterator[str]:
        """Never ends and never raises for what may pass, such as an API server that is down."""


class FileSource:
    """Documents from a file that another process replaces."""

    def __init__(self, path: Path, *, interval_s: float = 0.5) -> None:
        self._path = path
        self._interval_s = interval_s

    async def documents(self) -> AsyncIterator[str]:
        """Read the file every interval; a file that is not there is no document."""
        last = None
        while True:
            text = await asyncio.to_thread(self._read)
            if text is not None and text != last:
                last = text
                yield text
            await asyncio.sleep(self._interval_s)

    def _read(self) -> str | None:
        try:
            return self._path.read_text()
        except OSError:
            return None


class ConfigMapSource:
    """Documents from the ConfigMap that the operator writes."""

    def __init__(self, *, namespace: str, api: client.CoreV1Api) -> None:
        self._namespace = namespace
        self._api = api

    async def documents(self) -> AsyncIterator[str]:
        """List and watch; on any error again after a pause that grows to 15 s.

        A ConfigMap that is deleted changes nothing: the gateway goes on with what it has.
        """
        failures = 0
        while True:
            try:
                async for text in self._listed_and_watched():
                    failures = 0
                    yield text
            except (client.ApiException, aiohttp.ClientError, OSError, TimeoutError) as error:
                failures += 1
                logger.warning("cannot read ConfigMap %s/%s: %s", self._namespace, CONFIG_MAP, _one_line(error))
                await asyncio.sleep(min(_LONGEST_PAUSE_S, 0.25 * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0))

    async def _listed_and_watched(self) -> AsyncIterator[str]:
        """One LIST and the watches that continue it, until one cannot."""
        selected = {"namespace": self._namespace, "field_selector": f"metadata.name={CONFIG_MAP}"}
        listed = await self._api.list_namespaced_config_map(**selected, _request_timeout=30)
        for item in listed.items:
            if text := (item.data or {}).get(CONFIG_MAP_KEY):
                yield text
        resource_version = listed.metadata.resource_version
        while True:
            stream = watch.Watch().stream(
                self._api.list_namespaced_config_map,
                **selected,
                resource_version=resource_version,
                timeout_seconds=_WATCH_S,
                _request_timeout=_WATCH_S + 30,
            )
            try:
                async for event in stream:
                    found: dict[str, Any] = event["raw_object"]
                    resource_version = found["metadata"]["resourceVersion"]
                    if event["type"] in {"ADDED", "MODIFIED"} and (
                        text := (found.get("data") or {}).get(CONFIG_MAP_KEY)
                    ):
                        yield text
            except client.ApiException as error:
                if error.status != _GONE:
                    raise
                return
            finally:
                await stream.close()


class KeptDocument:
    """The last good document on disk, for a restart while the source is down."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> RouteDocument | None:
        """The document, or None where none was kept or what is there cannot be read."""
        try:
            return RouteDocument.from_json(self._path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning("the kept document %s is of no use: %s", self._path.name, _one_line(error))
            return None

    def write(self, document: RouteDocument) -> None:
        """Replace the kept document, whole or not at all."""
        beside = self._path.with_suffix(".new")
        beside.write_text(document.to_json())
        beside.replace(self._path)


def _one_line(error: Exception) -> str:
    if isinstance(error, client.ApiException):
        return f"{error.status} {error.reason}"
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
