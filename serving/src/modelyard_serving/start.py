"""A start in progress."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from modelyard_serving.contract import StartLedger
from modelyard_serving.journal import Journal


class Start:
    """Tells the begin and the end of each phase of a start, and keeps its seconds."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._spent: dict[str, float] = {}
        self._engine: dict[str, str | None] = {}

    @contextmanager
    def phase(self, name: str, **facts: Any) -> Iterator[None]:
        """A phase: `download`, `check`, `imports`, `load` or `warmup`."""
        self._journal.write("phase-begins", phase=name, **facts)
        began = time.monotonic()
        yield
        self._spent[name] = round(time.monotonic() - began, 3)
        self._journal.write("phase-ends", phase=name, seconds=self._spent[name])

    def engine(self, name: str, *, slower_because: str | None = None) -> None:
        """Which engine the model got, and why it is not the fastest one."""
        self._engine = {"engine": name, "slower_because": slower_because}

    def ledger(self) -> StartLedger:
        """Where the time went, and for which engine."""
        spent = self._spent
        return StartLedger(
            download_s=spent.get("download"),
            imports_s=spent["imports"],
            load_s=round(spent["check"] + spent["load"], 3),
            warmup_s=spent["warmup"],
            **self._engine,
        )
