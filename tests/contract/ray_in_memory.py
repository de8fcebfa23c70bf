"""The operator's process with Ray Serve in its own memory: all but Ray and the gateways is real.

`python -m tests.contract.ray_in_memory` instead of `python -m modelyard_operator`.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from tests.unit.reconcile.world import FakeServe

from modelyard_operator import __main__ as program
from modelyard_operator.ray.client import Proof, ServeClient

Observer = Callable[[str], None]


class _Serve(FakeServe):
    """Moves on by itself whenever it is asked, and tells of each config that it is given."""

    observe: Observer

    async def details(self) -> Mapping[str, Any]:
        self.step()
        return await super().details()

    async def put(self, config: Mapping[str, Any]) -> None:
        await super().put(config)
        self.observe("ok")


class _Serves:
    """One for each address."""

    def __init__(self, _: object, *, observe: Observer) -> None:
        self._observe = observe
        self._known: dict[str, _Serve] = {}

    def client(self, address: str, token: str) -> ServeClient:
        known = self._known.setdefault(address, _Serve())
        known.observe = self._observe
        return known


class _Prober:
    """Whatever is asked answers."""

    def __init__(self, _: object) -> None:
        pass

    async def prove(self, address: str, prefix: str, *, timeout_s: float) -> Proof:
        ledger = {"imports": 1.0, "load": 1.0, "warmup": 1.0}
        return Proof(ok=True, message="", seconds=0.1, ledger=ledger)

    async def download(self, address: str, service: str, revision: str) -> None:
        return None


if __name__ == "__main__":
    vars(program).update(HttpServeClients=_Serves, HttpProber=_Prober)
    sys.exit(program.main())
