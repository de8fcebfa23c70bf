"""`modelyard logs`."""

import json
from typing import Any

import pytest
from tests.unit.cli.conftest import Manifest, Shell, serving

from modelyard_operator.cli import service_logs
from modelyard_operator.cli.pod_logs import LogLine
from modelyard_operator.cli.service_logs import LogReader, Selection
from modelyard_operator.cli.services import find_service
from modelyard_operator.kube.client import CONTROLLER_REVISION, POD
from modelyard_operator.kube.errors import Forbidden, Unavailable


def _revision(service: str, name: str, group: str) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{service}-{name}",
            "namespace": "team-a",
            "labels": {
                "modelyard.dev/managed": "true",
                "modelyard.dev/service": service,
                "modelyard.dev/revision": name,
            },
            "annotations": {"modelyard.dev/phase": "Active"},
        },
        "revision": 1,
        "data": {
            "schema": 1,
            "specHash": "0",
            "servingCluster": {"namespace": "modelyard", "name": "default"},
            "rayCluster": "default-0000aa",
            "workerGroup": {"groupName": group},
        },
    }


def _pod(name: str, group: str) -> Manifest:
    labels = {"modelyard.dev/managed": "true", "ray.io/cluster": "default-0000aa", "ray.io/group": group}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "modelyard", "labels": labels},
    }


def _line(
    second: int, event: str, *, service: str = "team-a/smollm2", revision: str = "1a2b3c4d", **more: Any
) -> LogLine:
    stamp = f"2026-01-01T00:00:{second:02}.000000000Z"
    entry = {"time": f"2026-01-01T00:00:{second:02}.000+00:00", "level": "info", "event": event}
    return LogLine(stamp, json.dumps(entry | {"service": service, "revision": revision} | more))


@pytest.fixture
def logs(shell: Shell) -> Shell:
    """A service with two replicas and a neighbour in the same pods."""
    shell.put_service("smollm2", **serving())
    shell.kube.put(_revision("smollm2", "1a2b3c4d", "cpu-small-1"))
    shell.kube.put(_revision("other", "99999999", "cpu-small-2"))
    for name, group in (("w-aaaaa", "cpu-small-1"), ("w-bbbbb", "cpu-small-1"), ("w-ccccc", "cpu-small-2")):
        shell.kube.put(_pod(name, group))
    shell.pod_logs.said = {
        "w-aaaaa": [
            LogLine("2026-01-01T00:00:00.000000000Z", "[2026-01-01 00:00:00] Ray runtime started."),
            _line(1, "ready"),
            _line(3, "request", status=200, seconds=0.1),
            _line(4, "request", service="team-a/neighbour"),
        ],
        "w-bbbbb": [_line(2, "ready"), LogLine("2026-01-01T00:00:05.000000000Z", "{not json"), _line(6, "request")],
        "w-ccccc": [_line(1, "from-another-group")],
    }
    return shell


def _events(text: str) -> list[str]:
    return [json.loads(line)["event"] for line in text.splitlines()]


def test_the_lines_of_one_service_come_in_the_order_of_time(logs: Shell) -> None:
    result = logs("logs", "smollm2", "-o", "json")
    assert result.exit_code == 0
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(e["time"][17:19], e["event"]) for e in entries] == [
        ("01", "ready"), ("02", "ready"), ("03", "request"), ("06", "request"),
    ]  # fmt: skip


def test_text_says_when_where_what_and_the_details(logs: Shell) -> None:
    line = logs("logs", "smollm2").stdout.splitlines()[2]
    assert line.split() == [
        "2026-01-01T00:00:03.000+00:00", "aaaaa", "1a2b3c4d", "info", "request", "status=200", "seconds=0.1",
    ]  # fmt: skip


def test_a_text_with_blanks_is_quoted(logs: Shell) -> None:
    logs.pod_logs.said = {"w-aaaaa": [_line(1, "failed", level="error", message="no such folder")]}
    assert logs("logs", "smollm2").stdout.rstrip().endswith('error   failed message="no such folder"')


@pytest.mark.parametrize(
    ("tail", "events"), [("2", ["request", "request"]), ("0", []), ("-1", ["ready"] * 2 + ["request"] * 2)]
)
def test_tail_counts_lines_of_all_replicas_together(logs: Shell, tail: str, events: list[str]) -> None:
    assert _events(logs("logs", "smollm2", "--tail", tail, "-o", "json").stdout) == events


def test_one_revision_only(logs: Shell) -> None:
    logs.kube.put(_revision("smollm2", "55555555", "cpu-small-1"))
    logs.pod_logs.said["w-aaaaa"].append(_line(9, "of-the-new-one", revision="55555555"))
    assert _events(logs("logs", "smollm2", "--revision", "55555555", "-o", "json").stdout) == ["of-the-new-one"]


def test_a_revision_that_is_not_there_is_told_with_those_that_are(logs: Shell) -> None:
    result = logs("logs", "smollm2", "--revision", "nope")
    assert result.exit_code == 1
    assert result.stderr == "Error: team-a/smollm2 has no revision 'nope'.\nIt has: 1a2b3c4d.\n"


def test_a_revision_of_another_release_is_left_out_with_a_note(logs: Shell) -> None:
    newer = _revision("smollm2", "77777777", "cpu-small-9")
    logs.kube.put(newer | {"data": {"schema": 99}})
    result = logs("logs", "smollm2", "-o", "json")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 4
    assert result.stderr.startswith("Left out: revision smollm2-77777777")


def test_since_asks_the_pods_for_what_came_after(logs: Shell) -> None:
    assert logs("logs", "smollm2", "--since", "1h").stdout == ""
    assert logs("logs", "smollm2", "--since", "an hour").exit_code == 2


def test_no_worker_pod_is_said(logs: Shell) -> None:
    for name in ("w-aaaaa", "w-bbbbb"):
        logs.kube.remove(POD, name, namespace="modelyard")
    result = logs("logs", "smollm2")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "No worker pod runs for team-a/smollm2 now (Serving).\n"


@pytest.mark.parametrize("error", [Forbidden("pods/log is forbidden"), Unavailable("the kubelet is away")])
def test_a_log_that_cannot_be_read_is_a_failure(logs: Shell, error: Forbidden | Unavailable) -> None:
    logs.pod_logs.error = error
    result = logs("logs", "smollm2")
    assert result.exit_code == 1
    assert str(error) in result.stderr


async def _reader(shell: Shell) -> LogReader:
    service = await find_service(shell.cluster, "smollm2", "team-a")
    return LogReader(shell.cluster, service, Selection("team-a/smollm2", None, None, 100))


async def test_following_goes_on_after_the_past_without_a_gap_or_a_repetition(logs: Shell) -> None:
    reader = await _reader(logs)
    past = await reader.past(await reader.pods())
    logs.pod_logs.coming = {"w-aaaaa": [_line(7, "seven"), _line(8, "eight")], "w-bbbbb": [_line(7, "seven-b")]}
    coming = reader.coming()
    found = {(await anext(coming)).entry["event"] for _ in range(3)}
    await coming.aclose()  # type: ignore[attr-defined]
    assert [line.entry["event"] for line in past] == ["ready", "ready", "request", "request"]
    assert found == {"seven", "eight", "seven-b"}


async def test_following_finds_pods_that_come_later(logs: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_logs, "LOOK_FOR_PODS_S", 0)
    reader = await _reader(logs)
    await reader.past(await reader.pods())
    logs.pod_logs.coming = {"w-aaaaa": [_line(7, "old-pod")], "w-ddddd": [_line(8, "new-pod")]}
    coming = reader.coming()
    assert (await anext(coming)).entry["event"] == "old-pod"
    logs.kube.put(_pod("w-ddddd", "cpu-small-1"))
    assert (await anext(coming)).entry["event"] == "new-pod"
    await coming.aclose()  # type: ignore[attr-defined]


async def test_following_ends_with_the_error_of_an_api_server_that_is_gone(logs: Shell) -> None:
    reader = await _reader(logs)
    logs.kube.fail("list", CONTROLLER_REVISION, Unavailable("down"))
    with pytest.raises(Unavailable, match="down"):
        await anext(reader.coming())
