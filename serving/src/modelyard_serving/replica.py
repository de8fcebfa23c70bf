"""A replica: loads what its configuration says, then answers. Knows nothing of Ray."""

import asyncio
import time
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from modelyard_serving.contract import CacheConfig, ReplicaConfig, StartLedger
from modelyard_serving.failure import StartFailure
from modelyard_serving.http.app import build_http_app
from modelyard_serving.journal import Journal
from modelyard_serving.kinds.catalog import choose_kind
from modelyard_serving.meters import Meters
from modelyard_serving.metrics import DownloadMetrics, ReplicaMetrics
from modelyard_serving.models.folder import open_folder
from modelyard_serving.service import Loaded, Service
from modelyard_serving.sources.fetch import Copy, fetch
from modelyard_serving.start import Start


class Replica:
    """One model behind one ASGI application that follows the configuration."""

    def __init__(self, journal: Journal, *meters: Meters) -> None:
        """`meters` take the metrics beside Prometheus."""
        self._journal = journal
        self._meters = meters
        self._service: Service | None = None
        self._copy: Copy | None = None
        # Before a model is there, the server only needs an answer to ASGI's lifespan messages.
        self._http: ASGIApp = Starlette()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._http(scope, receive, send)

    async def configure(self, config: ReplicaConfig) -> None:
        """Obey `config`: limits change in place, another model is loaded in place of the present one.

        Raises:
            StartFailure: the model cannot be served.
        """
        self._journal.bind(service=config.service, revision=config.revision)
        present = self._service
        if present is not None and _same_model(present.config, config):
            present.loaded.model.resize(config.engine)
            self._serve(replace(present, config=config))
            self._journal.write("reconfigured")
            return
        self.close()
        try:
            loaded, ledger = await asyncio.to_thread(self._load, config)
        except StartFailure as failure:
            self._journal.write("failed", level="error", reason=failure.reason.value, message=failure.message)
            raise
        metrics = ReplicaMetrics(config.service, config.revision, *self._meters)
        metrics.started(ledger)
        self._serve(Service(config, loaded, ledger, self._journal, metrics, int(time.time())))
        self._journal.write("ready", **loaded.facts, **ledger.model_dump())

    def check(self) -> None:
        """Raise `EngineFailed` when the engine works no more."""
        if self._service is not None:
            self._service.loaded.model.check()
            self._service.measure()

    def close(self) -> None:
        """Stop the engine."""
        if self._service is not None:
            self._service.loaded.model.close()
            self._service = None
        if self._copy is not None:
            self._copy.hold.close()
            self._copy = None

    def _serve(self, service: Service) -> None:
        self._service = service
        self._http = build_http_app(service)

    def _load(self, config: ReplicaConfig) -> tuple[Loaded, StartLedger]:
        """Find the model and its task, and load it; blocks for all of it."""
        start = Start(self._journal)
        if config.cache is not None:
            with start.phase("download"):
                self._copy = self._fetched(config, config.cache)
            config = config.of_model_at(self._copy.path)
        files = open_folder(config.model)
        loaded = choose_kind(config.model, files).load(files, config, start)
        return loaded, start.ledger()

    def _fetched(self, config: ReplicaConfig, cache: CacheConfig) -> Copy:
        """The model in the cache; the journal and Ray's metrics say how far it is."""
        metrics = DownloadMetrics(config.service, config.revision, *self._meters)

        def tell(event: str, **fields: Any) -> None:
            self._journal.write(event, **fields)
            metrics.told(fields.get("bytes"), fields.get("done_bytes"))

        copy = fetch(config.model.uri, cache, tell)
        metrics.ended()
        return copy


def _same_model(one: ReplicaConfig, other: ReplicaConfig) -> bool:
    """Whether the two differ in nothing but what can change while a model runs."""
    live = {"engine": other.engine, "request_timeout_s": other.request_timeout_s}
    return one.model_copy(update=live) == other
