"""A replica: loads what its configuration says, then answers. Knows nothing of Ray."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from modelyard_serving.contract import ReplicaConfig, StartLedger
from modelyard_serving.failure import StartFailure
from modelyard_serving.http.app import build_http_app
from modelyard_serving.journal import Journal
from modelyard_serving.metrics import ReplicaMetrics
from modelyard_serving.models.folder import inspect_folder
from modelyard_serving.service import Service
from modelyard_serving.tasks.text_generation import TextGeneration


class Replica:
    """One model behind one ASGI application that follows the configuration."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._service: Service | None = None
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
            present.text.engine.resize(config.engine)
            self._serve(replace(present, config=config))
            self._journal.write("reconfigured")
            return
        self.close()
        try:
            text, ledger = await asyncio.to_thread(self._load, config)
        except StartFailure as failure:
            self._journal.write("failed", level="error", reason=failure.reason.value, message=failure.message)
            raise
        metrics = ReplicaMetrics(config.service, config.revision)
        metrics.started(ledger)
        self._serve(Service(config, text, ledger, self._journal, metrics, int(time.time())))
        self._journal.write("ready", chat=text.can_chat, **ledger.model_dump())

    def check(self) -> None:
        """Raise `EngineFailed` when the engine works no more."""
        if self._service is not None:
            self._service.text.engine.check()

    def close(self) -> None:
        """Stop the engine."""
        if self._service is not None:
            self._service.text.close()
            self._service = None

    def _serve(self, service: Service) -> None:
        self._service = service
        self._http = build_http_app(service)

    def _load(self, config: ReplicaConfig) -> tuple[TextGeneration, StartLedger]:
        """Check, import, read, warm up; blocks for all of it."""
        spent: dict[str, float] = {}
        with self._phase("check", spent):
            folder = inspect_folder(config.model, config.memory_bytes)
        with self._phase("imports", spent):
            # Here and not above: the import takes seconds and belongs into the ledger of the start.
            from modelyard_serving.engines.transformers_engine import TransformersEngine
            from modelyard_serving.models import causal_lm

            settings = causal_lm.import_architecture(folder, config.model.uri)
        with self._phase("load", spent, bytes=folder.load_bytes):
            loaded = causal_lm.load_causal_lm(folder, settings, config)
        with self._phase("warmup", spent):
            causal_lm.warm_up(loaded, config.model.uri)
        engine = TransformersEngine(
            loaded.model, context_length=loaded.context_length, end_tokens=loaded.end_tokens, config=config.engine
        )
        ledger = StartLedger(
            imports_s=spent["imports"], load_s=round(spent["check"] + spent["load"], 3), warmup_s=spent["warmup"]
        )
        return TextGeneration(engine, loaded.tokenizer), ledger

    @contextmanager
    def _phase(self, name: str, spent: dict[str, float], **facts: Any) -> Iterator[None]:
        """Tell the begin and the end of a phase of the start, and note its seconds."""
        self._journal.write("phase-begins", phase=name, **facts)
        began = time.monotonic()
        yield
        spent[name] = round(time.monotonic() - began, 3)
        self._journal.write("phase-ends", phase=name, seconds=spent[name])


def _same_model(one: ReplicaConfig, other: ReplicaConfig) -> bool:
    """Whether the two differ in nothing but what can change while a model runs."""
    live = {"engine": other.engine, "request_timeout_s": other.request_timeout_s}
    return one.model_copy(update=live) == other
