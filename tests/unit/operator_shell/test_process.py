"""What the process makes of its environment, and what its log lines look like."""

import json
import logging
import sys

import pytest

from modelyard_operator.__main__ import main
from modelyard_operator.logs import JsonFormatter
from modelyard_operator.settings import Settings


def test_settings_that_are_missing_or_wrong_are_named_as_the_environment_names_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELYARD_NAMESPACE", "modelyard")
    monkeypatch.setenv("MODELYARD_GATEWAY_URL", "http://gateway")
    monkeypatch.setenv("MODELYARD_RESYNC_S", "-1")
    monkeypatch.delenv("MODELYARD_SERVING_IMAGE", raising=False)
    monkeypatch.setenv("MODELYARD_REDIS_IMAGE", "redis:1")
    assert main() == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "MODELYARD_SERVING_IMAGE: Field required",
        "MODELYARD_RESYNC_S: Input should be greater than 0",
    ]


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "NAMESPACE": "modelyard",
        "SERVING_IMAGE": "s:1",
        "REDIS_IMAGE": "r:1",
        "GATEWAY_URL": "http://g",
        "PROBE_PORT": "8181",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"MODELYARD_{name}", value)
    settings = Settings()
    assert (settings.namespace, settings.serving_image, settings.probe_port) == ("modelyard", "s:1", 8181)


def test_a_log_line_is_one_json_object_with_what_it_is_about() -> None:
    record = logging.makeLogRecord(
        {"name": "n", "levelname": "INFO", "msg": "switched to %s", "args": ("r1",), "kind": "K", "object": "a/b"}
    )
    line = json.loads(JsonFormatter().format(record))
    assert line.pop("time")
    assert line == {"level": "INFO", "logger": "n", "message": "switched to r1", "kind": "K", "object": "a/b"}


def test_a_traceback_stays_in_its_line() -> None:
    try:
        int("bug")
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert "ValueError: invalid literal" in json.loads(text)["traceback"]
