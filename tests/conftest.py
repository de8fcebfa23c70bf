"""The real API server, on loopback, for the tests that ask for it."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from tests.kubectl import Kubectl

from modelyard_hack.control_plane import loopback_apiserver
from modelyard_hack.step import wait_until

REPOSITORY = Path(__file__).parents[1]

# The same examples each time, so that a run says something of the code and not of its luck; to search for more:
# pytest --hypothesis-profile=default tests/unit. How long an example takes says something of the machine.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A folder's tests of an API server, and those of a local Ray, follow one another, in the order of their files.

    Whichever comes first has to wait for the API server, on a busy machine for long.
    """
    for item in items:
        folder = item.path.relative_to(REPOSITORY / "tests").parts[0]
        if "kubectl" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(240))
            item.add_marker(pytest.mark.xdist_group(folder))
        elif folder == "local":
            item.add_marker(pytest.mark.xdist_group(folder))


@pytest.fixture(scope="session")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl against etcd and kube-apiserver of this run, with our CRDs applied."""
    with loopback_apiserver(tmp_path_factory.mktemp("apiserver")) as kubeconfig:
        client = Kubectl(kubeconfig)
        client.must("apply", "--server-side", "-f", str(REPOSITORY / "crds"))
        client.must("wait", "--for=condition=Established", "--timeout=20s", "-f", str(REPOSITORY / "crds"))
        wait_until(lambda: _explained(client), what="discovery of our kinds", timeout=20)
        yield client


def _explained(client: Kubectl) -> bool:
    """Whether the server tells our kinds to clients: it publishes schemas a moment after it serves them."""
    return all(client("explain", f"{kind}.status").code == 0 for kind in ("msvc", "scl", "apool"))
