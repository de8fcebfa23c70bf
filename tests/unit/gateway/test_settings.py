from pathlib import Path

import pytest

from modelyard_gateway.settings import settings_from

HAPROXY = Path("/bin/haproxy")


def environment(**values: str) -> dict[str, str]:
    return {"HOME": "/", "MODELYARD_GATEWAY_NAMESPACE": "modelyard"} | {
        f"MODELYARD_GATEWAY_{name}": value for name, value in values.items()
    }


def test_defaults() -> None:
    settings = settings_from(environment(), haproxy=HAPROXY)
    assert (settings.namespace, settings.routes_file) == ("modelyard", None)
    assert (settings.listen_port, settings.status_port) == (8000, 8404)
    assert 1 <= settings.threads <= 4


def test_each_variable_has_its_effect() -> None:
    settings = settings_from(
        environment(
            ROUTES_FILE="/routes.json",
            STATE_DIR="/state",
            LISTEN_PORT="80",
            STATUS_PORT="81",
            THREADS="3",
            MAX_CONNECTIONS="100",
            DRAIN_DELAY_SECONDS="0",
        ),
        haproxy=HAPROXY,
    )
    assert (settings.namespace, settings.routes_file, settings.state_dir) == (
        None,
        Path("/routes.json"),
        Path("/state"),
    )
    assert (settings.listen_port, settings.status_port, settings.threads) == (80, 81, 3)
    assert (settings.max_connections, settings.drain_delay_s) == (100, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"LISTEN_PORT": "0"}, "LISTEN_PORT is '0': give a whole number from 1 to 65535"),
        ({"THREADS": "two"}, "THREADS is 'two'"),
        ({"DRAIN_DELAY_SECONDS": "-1"}, "DRAIN_DELAY_SECONDS is '-1': give a whole number from 0 to 600"),
        ({"LISTENPORT": "80"}, "unknown variable MODELYARD_GATEWAY_LISTENPORT"),
        ({"STATE_DIR": "/" + "x" * 100}, "STATE_DIR is longer than 80 characters"),
        ({"MAX_CONNECTIONS": "500000"}, "MAX_CONNECTIONS is 500000, which needs 1000512 open files"),
        ({"NAMESPACE": ""}, "NAMESPACE is not set: give the operator's namespace"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard_gateway.settings.resource.getrlimit", lambda _: (1024, 20_000))
    with pytest.raises(ValueError, match="MODELYARD_GATEWAY_") as raised:
        settings_from(environment(**values), haproxy=HAPROXY)
    assert message in str(raised.value)
