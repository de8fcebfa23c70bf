"""How a worker pod leaves: asks to drain, waits for its raylet, and does not wait for a head that is gone."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from modelyard_serving import departure
from modelyard_serving.departure import Raylet, RayNode, depart

RAYLET = Raylet(pid=41, node_id="ab12")


class World:
    """A node, its head and the time; each look takes a second."""

    def __init__(self, *, ends_after: int | None = None, answers: tuple[bool, ...] = (True,), load: int = 0) -> None:
        self.now = 0.0
        self.answers = answers
        self.load = load
        self.agrees = True
        self.asked: list[float] = []
        self.ended: float | None = None
        self._ends_after = ends_after

    def raylet(self) -> Raylet | None:
        gone = self.ended is not None or (self._ends_after is not None and self.now >= self._ends_after)
        return None if gone else RAYLET

    def head_answers(self) -> bool:
        return self.answers[min(int(self.now), len(self.answers) - 1)]

    def ask_to_drain(self, raylet: Raylet) -> bool:
        assert raylet is RAYLET
        self.asked.append(self.now)
        return self.agrees

    def requests(self) -> int:
        return self.load

    def end(self, raylet: Raylet) -> None:
        self.ended = self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 10_000, "it waits for ever"

    def depart(self) -> float:
        depart(self, clock=lambda: self.now, sleep=self.sleep)
        return self.now


def test_it_asks_once_and_waits_until_ray_has_ended_the_node() -> None:
    world = World(ends_after=3000, load=5)
    assert world.depart() == 3000
    assert world.asked == [0]
    assert world.ended is None


def test_it_asks_again_until_the_head_agrees() -> None:
    world = World(ends_after=10)
    world.agrees = False
    world.depart()
    assert world.asked == list(range(10))


def test_it_asks_a_head_that_has_come_back_and_may_have_forgotten() -> None:
    world = World(ends_after=40, answers=(True, *[False] * 15, True))
    world.depart()
    assert world.asked == [0, 16]
    assert world.ended is None


def test_without_a_head_it_ends_a_node_that_nobody_uses() -> None:
    world = World(answers=(False,))
    assert world.depart() == 20
    assert world.ended == 20


def test_without_a_head_it_keeps_a_node_for_its_requests() -> None:
    world = World(answers=(False,), load=1, ends_after=4000)
    assert world.depart() == 4000
    assert world.ended is None


def test_a_node_that_has_ended_is_left_at_once() -> None:
    """Ray's own scale-down ends the raylet before the pod is deleted."""
    world = World(ends_after=0)
    assert world.depart() == 0
    assert world.asked == []


# What it sees and does for real.


def node(proc: Path, head: str = "127.0.0.1:1") -> RayNode:
    return RayNode(head=head, serve_port=8000, within_s=90_000, proc=proc)


@pytest.mark.parametrize("option", ["--node_id=ab12", "--node-id=ab12"])
def test_the_raylet_is_found_among_the_processes(tmp_path: Path, option: str) -> None:
    for pid, words in {
        "1": ["ray", "start", "--block"],
        "41": ["/ray/core/src/ray/raylet/raylet", "--x=1", option],
    }.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes("\0".join([*words, ""]).encode())
    assert node(tmp_path).raylet() == RAYLET
    (tmp_path / "41" / "cmdline").unlink()
    assert node(tmp_path).raylet() is None


def test_requests_are_the_connections_to_the_proxy_and_the_replicas(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()

    def table(*rows: tuple[int, str]) -> str:
        lines = [f"   {i}: 0100007F:{port:04X} 0200007F:D431 {state} 00000000" for i, (port, state) in enumerate(rows)]
        return "\n".join(["  sl  local_address rem_address   st", *lines]) + "\n"

    established, listening, closing = "01", "0A", "06"
    (tmp_path / "net" / "tcp").write_text(
        table((8000, established), (8000, listening), (30000, established), (8265, established), (31000, closing))
    )
    assert node(tmp_path).requests() == 2
    (tmp_path / "net" / "tcp6").write_text(table((31000, established), (31001, established)))
    assert node(tmp_path).requests() == 3


def test_a_head_answers_when_its_port_takes_connections(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = f"127.0.0.1:{server.getsockname()[1]}"
        assert node(tmp_path, head).head_answers()
    assert not node(tmp_path, head).head_answers()


def test_it_asks_with_rays_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = tmp_path / "ray"
    ray.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ntest ! -e {tmp_path}/refuse\n')
    ray.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert node(tmp_path, "head:6379").ask_to_drain(RAYLET)
    asked = (tmp_path / "asked").read_text()
    assert "drain-node --address head:6379 --node-id ab12 --reason DRAIN_NODE_REASON_PREEMPTION" in asked
    assert asked.rstrip().endswith("--deadline-remaining-seconds 90000")
    (tmp_path / "refuse").touch()
    assert not node(tmp_path, "head:6379").ask_to_drain(RAYLET)
    ray.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not node(tmp_path, "head:6379").ask_to_drain(RAYLET)


def test_the_raylet_is_told_to_end(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        node(tmp_path).end(Raylet(process.pid, "ab12"))
        assert process.wait(timeout=10) == -signal.SIGTERM


def test_it_takes_the_head_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[departure.Node] = []
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setattr(departure, "depart", lambda node, **_: seen.append(node))
    departure.main(["8000", "90000"])
    assert seen == [RayNode(head="head:6379", serve_port=8000, within_s=90_000)]


FIRST_PROCESS = Path(__file__).parents[3] / "serving/etc/first-process.bash"


def test_a_bash_that_waits_for_the_head_ends_when_it_is_told_to() -> None:
    """As the first process of a container it would ignore a signal that it has no handler for."""
    env = {**os.environ, "BASH_ENV": str(FIRST_PROCESS)}
    # Not `exec sleep`: a signal that comes while bash gives way to another program is lost.
    script = "trap; echo ready; echo '{words}' >&2; while true; do sleep 0.1; done"
    for words, has_handler in (("Waiting for GCS to be ready.", True), ("Waiting for others.", False)):
        command = ["bash", "-c", script.format(words=words)]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            handled = "".join(iter(process.stdout.readline, "ready\n"))
            assert ("SIGTERM" in handled) == has_handler
            process.terminate()
            assert process.wait(timeout=10) == (143 if has_handler else -signal.SIGTERM)
