import os
from pathlib import Path

import pytest

from modelyard_hack import processes
from modelyard_hack.layout import StateFolder
from modelyard_hack.processes import Component
from modelyard_hack.step import StepError, last_lines, step

SLEEPER = Component("sleeper", ("sleep", "60"))


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path).make()


def test_starts_once_and_stops_the_real_process(state: StateFolder) -> None:
    pid = processes.start(state, SLEEPER)
    assert processes.start(state, SLEEPER) == pid
    assert processes.running_pid(state, "sleeper") == pid
    assert processes.stop(state, "sleeper")
    assert processes.start_time(pid) is None
    assert not processes.stop(state, "sleeper")


def test_what_the_caller_holds_open_is_not_held_by_the_daemon(state: StateFolder, tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        pid = processes.start(state, SLEEPER)
        held = {link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()}
    processes.stop(state, "sleeper")
    assert tmp_path / "lock" not in held


def test_a_reused_process_id_is_not_ours(state: StateFolder) -> None:
    (state.pids / "sleeper").write_text("1 12345678\n")
    assert processes.running_pid(state, "sleeper") is None


def test_a_namespaced_component_keeps_its_own_pid_and_mounts() -> None:
    argv = Component("x", ("prog", "--flag"), Path("/run/netns/n")).argv()
    assert argv == ["nsenter", "--net=/run/netns/n", "--", "prog", "--flag"]


def test_a_failed_step_shows_the_log_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {n}\n" for n in range(100)))
    with pytest.raises(StepError) as caught, step("start x", log=log, remedy="look at x"):
        raise OSError("no such device")
    text = caught.value.explain()
    assert "start x: no such device" in text
    assert "line 99" in text
    assert "line 84" not in text
    assert "what to do: look at x" in text
    assert "start x ... failed after" in capsys.readouterr().err


def test_the_innermost_explanation_of_a_failure_wins(tmp_path: Path) -> None:
    inner = tmp_path / "inner.log"
    with pytest.raises(StepError) as caught, step("outer", log=tmp_path / "outer.log", remedy="general"):
        raise StepError("inner", log=inner)
    assert caught.value.log == inner
    assert caught.value.remedy == "general"


def test_last_lines_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "long.log"
    log.write_text("x" * 200_000 + "\nend\n")
    assert last_lines(log, 1) == ["end"]
