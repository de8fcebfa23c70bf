"""Leaving: nothing sticks, and what is there is taken up again."""

from typing import TYPE_CHECKING

import pytest
from e2e.cluster import RELEASE, SYSTEM, get, items, run, until
from e2e.conftest import install, left_namespaces
from e2e.traffic import post

if TYPE_CHECKING:
    from e2e.conftest import Maker, Resident


@pytest.mark.timeout(150)
def test_every_namespace_of_the_tests_is_gone(platform: str) -> None:
    """Whatever state a test left its services in, none of them holds its namespace."""
    until("no namespace of a test", lambda: not left_namespaces(), within=120)


@pytest.mark.timeout(600)
def test_uninstall_and_reinstall(resident: "Resident", resident_maker: "Maker") -> None:
    manifest = resident.service.read()
    run("helm", "uninstall", RELEASE, "-n", SYSTEM, "--wait", "--timeout", "120s", timeout=150)
    until("every Ray pod to be gone", lambda: not items("pods", SYSTEM, "ray.io/is-ray-node=yes"), within=120)
    assert items("modelservices") == []
    assert items("servingclusters") == []
    assert get("crd", "modelservices.modelyard.dev") is not None
    install()
    again = resident_maker("resident", uri=manifest["spec"]["model"]["source"]["uri"])
    again.wait(within=300)
    from e2e.conftest import gateway_url

    url = f"{gateway_url()}/{again.namespace}/{again.name}/v1/completions"
    status, answer = post(url, {"model": again.model, "prompt": "The", "max_tokens": 2})
    assert status == 200, answer
