"""`modelyard status`."""

import json
import re

import pytest
from tests.unit.cli.conftest import Manifest, Shell, condition, serving

from modelyard_operator.api.conditions import Reason
from modelyard_operator.cli.advice import ADVICE
from modelyard_operator.kube.client import EVENT, MODEL_SERVICE
from modelyard_operator.kube.errors import Forbidden


def _event(about: Manifest, reason: str, at: str) -> Manifest:
    metadata = about["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{reason.lower()}", "namespace": metadata["namespace"]},
        "involvedObject": {"uid": metadata["uid"], "name": metadata["name"], "kind": about["kind"]},
        "type": "Normal",
        "reason": reason,
        "message": f"told of {reason}",
        "lastTimestamp": at,
    }


def test_everything_about_a_service_that_is_well(shell: Shell) -> None:
    service = shell.put_service("smollm2", **serving())
    other = shell.put_service("other", **serving())
    shell.kube.put(_event(service, "Serving", "2026-01-01T00:02:00Z"))
    shell.kube.put(_event(service, "Proving", "2026-01-01T00:01:00Z"))
    shell.kube.put(_event(other, "Draining", "2026-01-01T00:01:00Z"))
    result = shell("status", "smollm2")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "team-a/smollm2  Serving  2 of 2 replicas serve."
    words = [line.split() for line in lines]
    assert words[1] == ["Model", "pvc://models/smollm2"]
    assert ["URL", "http://gateway/team-a/smollm2"] in words
    assert ["Replicas", "2", "of", "2", "serve", "(fixed", "at", "2)"] in words
    assert ["1a2b3c4d", "Active", "100", "%"] in words
    assert result.stdout.index("told of Proving") < result.stdout.index("told of Serving")
    assert "told of Draining" not in result.stdout
    assert lines[-1].strip() == "curl http://gateway/team-a/smollm2/v1/models"


def test_the_ledger_is_drawn_to_scale(shell: Shell) -> None:
    shell.put_service("smollm2", **serving())
    lines = [line.split() for line in shell("status", "smollm2").stdout.splitlines()]
    bars = {line[0]: len(line[-1]) for line in lines if line and set(line[-1]) == {"█"}}
    assert bars == {"provisioning": 16, "image": 10, "ray": 40, "imports": 20, "load": 4, "warmup": 2, "proof": 1}
    assert ["Cold", "start", "of", "revision", "1a2b3c4d:", "23.4", "s"] in lines


def test_a_service_that_fails_ends_with_3_and_says_what_to_do(shell: Shell) -> None:
    status = serving() | {
        "conditions": [
            condition("Degraded", "True", "ModelNotFound", "There is no folder /models/models/x."),
            condition("Ready", "False", "ModelNotFound", "There is no folder /models/models/x."),
        ]
    }
    shell.put_service("smollm2", **status)
    result = shell("status", "smollm2")
    assert result.exit_code == 3
    assert result.stdout.splitlines()[-2:] == [
        "Correct spec.model.source.uri, or put the model there.",
        "  kubectl -n team-a edit msvc smollm2",
    ]


def test_what_is_wrong_now_comes_before_what_still_serves(shell: Shell) -> None:
    conditions = [condition("Degraded", "True", "OutOfMemory"), condition("Ready", "True", "Serving")]
    shell.put_service("smollm2", **serving() | {"conditions": conditions})
    result = shell("status", "smollm2")
    assert result.exit_code == 0
    assert "Raise spec.resources.memory." in result.stdout


@pytest.mark.parametrize("status", [{}, serving() | {"observedGeneration": 0}])
def test_an_operator_that_has_not_looked_yet_is_asked_for(shell: Shell, status: Manifest) -> None:
    shell.put_service("smollm2", **status)
    assert "Is it running?" in shell("status", "smollm2").stdout


def test_json_carries_status_events_and_the_next_thing(shell: Shell) -> None:
    service = shell.put_service("smollm2", **serving())
    shell.kube.put(_event(service, "Serving", "2026-01-01T00:02:00Z"))
    told = json.loads(shell("status", "smollm2", "-o", "json").stdout)
    assert told["service"] == "team-a/smollm2"
    assert told["ready"] is True
    assert told["status"] == service["status"]
    assert told["events"] == [
        {"time": "2026-01-01T00:02:00Z", "type": "Normal", "reason": "Serving", "message": "told of Serving"}
    ]
    assert told["next"]["command"] == "curl http://gateway/team-a/smollm2/v1/models"


def test_events_that_may_not_be_seen_are_left_out(shell: Shell) -> None:
    shell.put_service("smollm2", **serving())
    shell.kube.fail("list", EVENT, Forbidden("cannot list events"))
    result = shell("status", "smollm2")
    assert result.exit_code == 0
    assert "Events are not shown" in result.stderr


def test_a_service_that_is_not_there_ends_with_1(shell: Shell) -> None:
    assert shell("status", "nope").exit_code == 1


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_advice_that_can_be_filled_in(shell: Shell, reason: Reason) -> None:
    conditions = [condition("Ready", "False", reason.value)]
    shell.put_service("smollm2", **serving() | {"conditions": conditions})
    told = json.loads(shell("status", "smollm2", "-o", "json").stdout)["next"]
    assert told["do"] == ADVICE[reason][0]
    assert "{" not in told["command"].replace('{"spec":{"suspend":false}}', "")


def test_a_service_that_is_being_deleted_is_waited_for(shell: Shell) -> None:
    service = shell.put_service("smollm2", **serving())
    service["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    shell.kube.remove(MODEL_SERVICE, "smollm2", namespace="team-a")
    shell.kube.put(service)
    assert "Wait: it goes when" in shell("status", "smollm2").stdout


def test_a_rollout_has_a_plan_with_times(shell: Shell) -> None:
    plan = [
        {"step": "make 1 worker", "seconds": 27.5},
        {"step": "revision 1a2b3c4d finishes its requests", "atMost": 3600},
        {"step": "wait for room"},
    ]
    shell.put_service("smollm2", **serving() | {"plan": plan})
    told = shell("status", "smollm2").stdout
    assert re.search(r"make 1 worker +about 27.5 s, as the last time", told)
    assert re.search(r"finishes its requests +at most 3600 s", told)
    assert re.search(r"wait for room +not known", told)
    shell.put_service("smollm2", **serving())
    assert "Plan" not in shell("status", "smollm2").stdout
