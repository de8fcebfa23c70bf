"""No wake-up is lost, none is kept for an object without a loop."""

import asyncio

import pytest
from tests.unit.fakes.virtual_time import run_virtually

from modelyard_operator.kube.client import MODEL_SERVICE, SERVING_CLUSTER
from modelyard_operator.reconcile.result import Key
from modelyard_operator.reconcile.wakeups import Wakeups

A, B = Key("team", "a"), Key("team", "b")


def test_a_wake_up_before_the_wait_is_not_lost() -> None:
    async def main() -> None:
        wakeups = Wakeups()
        with wakeups.listening(MODEL_SERVICE, A):
            wakeups.wake(MODEL_SERVICE, A)
            assert await wakeups.wait(MODEL_SERVICE, A, 3600)
            assert asyncio.get_running_loop().time() == 0

    run_virtually(main())


def test_many_wake_ups_are_taken_as_one_and_then_the_wait_times_out() -> None:
    async def main() -> None:
        wakeups = Wakeups()
        with wakeups.listening(MODEL_SERVICE, A):
            wakeups.wake(MODEL_SERVICE, A)
            wakeups.wake(MODEL_SERVICE, A)
            assert await wakeups.wait(MODEL_SERVICE, A, 5)
            assert not await wakeups.wait(MODEL_SERVICE, A, 5)
            assert asyncio.get_running_loop().time() == 5

    run_virtually(main())


def test_all_objects_of_a_kind_are_woken_and_none_of_another() -> None:
    async def main() -> None:
        wakeups = Wakeups()
        with (
            wakeups.listening(MODEL_SERVICE, A),
            wakeups.listening(MODEL_SERVICE, B),
            wakeups.listening(SERVING_CLUSTER, A),
        ):
            wakeups.wake_all(MODEL_SERVICE)
            assert wakeups.is_woken(MODEL_SERVICE, A)
            assert wakeups.is_woken(MODEL_SERVICE, B)
            assert not wakeups.is_woken(SERVING_CLUSTER, A)

    run_virtually(main())


def test_nothing_is_kept_of_an_object_without_a_loop() -> None:
    async def main() -> None:
        wakeups = Wakeups()
        wakeups.wake(MODEL_SERVICE, A)
        with wakeups.listening(MODEL_SERVICE, A):
            assert not wakeups.is_woken(MODEL_SERVICE, A)
            wakeups.wake(MODEL_SERVICE, A)
        with pytest.raises(KeyError):
            wakeups.is_woken(MODEL_SERVICE, A)
        with wakeups.listening(MODEL_SERVICE, A):
            assert not wakeups.is_woken(MODEL_SERVICE, A)

    run_virtually(main())
