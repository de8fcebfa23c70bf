"""One world for each test."""

import pytest
from tests.unit.reconcile.world import World


@pytest.fixture
def world() -> World:
    return World()
