"""`modelyard run` on a real local Ray with a real, small model, through the official client."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.__main__ import main as prepare_models
from modelyard_hack.layout import REPOSITORY, cache_folder

pytestmark = pytest.mark.timeout(300)

MODEL = "default/gpt2-small"
PROMPT = "The import statement"
MARK = "MODELYARD_TEST_RUN"
CLIENTS = 8
LIMIT = 32 + 64
"""Requests that a replica takes on: its default max_running and max_queued."""


@dataclass(frozen=True)
class Served:
    """A `modelyard run` that is ready."""

    url: str
    document: dict[str, Any]
    log: Path

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key="none", max_retries=0)

    def ask(self, **settings: Any) -> Any:
        create: Any = self.client.completions.create
        return create(model=MODEL, **{"prompt": PROMPT, "temperature": 0} | settings)

    def gauge(self, name: str) -> float:
        """A metric of the replica that has no labels of its own."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/-/metrics", timeout=10) as answer:  # noqa: S310
            lines = answer.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name}{{")).rpartition(" ")[2])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(manifest: Path, port: int, mark: str, log: Path) -> subprocess.Popen[str]:
    command = [
        str(Path(sys.executable).parent / "modelyard"), "run", "-f", str(manifest), "--port", str(port),
        "--volume", f"models={cache_folder() / 'models'}", "-o", "json",
    ]  # fmt: skip
    with log.open("w") as stderr:
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=os.environ | {MARK: mark}
        )


def _left_over(mark: str) -> list[str]:
    """The processes of a run that are still there."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_text().replace("\0", " ")[:80])
        except OSError:
            continue  # it ended while we looked, or is not ours
    return found


def _soon(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The example gpt2-small; in the end Ctrl-C must stop everything."""
    assert prepare_models(["gpt2-small"]) == 0
    log, mark = tmp_path_factory.mktemp("run") / "stderr", uuid.uuid4().hex
    server = _start(REPOSITORY / "examples/gpt2-small.yaml", _free_port(), mark, log)
    assert server.stdout is not None
    line = server.stdout.readline()
    try:
        assert line, log.read_text()
        document = json.loads(line)
        yield Served(document["services"][0]["url"], document, log)
    finally:
        server.send_signal(signal.SIGINT)
        code = server.wait(timeout=60)
        server.stdout.close()
    assert code == 130, log.read_text()
    assert _soon(lambda: not _left_over(mark), 10), _left_over(mark)


@pytest.fixture(scope="module")
def expected() -> str:
    """What transformers itself answers to PROMPT."""
    folder = cache_folder() / "models" / "gpt2-small"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer(PROMPT, return_tensors="pt")
    output = model.generate(**prompt, max_new_tokens=60, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        text: str = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return text


def test_the_answer_is_that_of_generate_streamed_and_not(served: Served, expected: str) -> None:
    whole = served.ask(max_tokens=60)
    chunks = list(served.ask(max_tokens=60, stream=True, stream_options={"include_usage": True}))
    assert whole.choices[0].text == expected
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == expected
    assert len(chunks) > 30
    assert chunks[-1].usage == whole.usage


def test_the_start_is_told_by_phase(served: Served) -> None:
    service = served.document["services"][0]
    assert service["service"] == MODEL
    assert service["tokens"] > 0
    assert 0 < service["start"]["imports_s"] < served.document["ready_s"]
    log = served.log.read_text()
    assert [
        phase for phase in ("check", "imports", "load", "warmup") if f"{MODEL}: {phase} done after" not in log
    ] == []


def test_eight_clients_at_once_get_the_same_answer_and_all_stream(served: Served, expected: str) -> None:
    answers: dict[int, str] = {}
    first: dict[int, float] = {}
    last: dict[int, float] = {}

    def one(number: int) -> None:
        text = ""
        for chunk in served.ask(max_tokens=60, stream=True):
            first.setdefault(number, time.monotonic())
            text += chunk.choices[0].text
        last[number] = time.monotonic()
        answers[number] = text

    threads = [threading.Thread(target=one, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[number] for number in range(CLIENTS)] == [expected] * CLIENTS
    assert max(first.values()) < min(last.values())  # nobody waited for another's end


def test_a_stop_string_is_obeyed(served: Served, expected: str) -> None:
    stop = expected.strip()[5:9]
    answer = served.ask(max_tokens=60, stop=[stop]).choices[0]
    assert (answer.text, answer.finish_reason) == (expected[: expected.index(stop)], "stop")


def test_a_client_that_leaves_frees_its_place(served: Served) -> None:
    stream = served.ask(max_tokens=500, temperature=1, seed=1, stream=True)
    next(iter(stream))
    assert served.gauge("modelyard_running_requests") == 1
    stream.close()
    assert _soon(lambda: served.gauge("modelyard_running_requests") == 0, 5)
    assert _soon(lambda: f"{MODEL}: completions 499" in served.log.read_text(), 5)


async def test_more_than_the_queue_takes_is_told_to_come_back(served: Served) -> None:
    async with openai.AsyncOpenAI(base_url=served.url, api_key="none", max_retries=0, timeout=200) as client:
        asking = (
            client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=150, extra_body={"ignore_eos": True})
            for _ in range(LIMIT + 20)
        )
        answers = await asyncio.gather(*asking, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
    assert len(answers) - len(refused) >= LIMIT
    assert 1 <= len(refused) <= 20
    assert {type(answer).__name__ for answer in answers} == {"Completion", "RateLimitError"}
    assert refused[0].code == "queue_full"
    assert int(refused[0].response.headers["retry-after"]) >= 1


def test_errors_are_those_of_the_official_client(served: Served) -> None:
    with pytest.raises(openai.BadRequestError, match="no chat template") as chat:
        served.client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
    assert chat.value.code == "no_chat_template"
    with pytest.raises(openai.NotFoundError, match=MODEL):
        served.client.completions.create(model="gpt2-small", prompt="x")
    with pytest.raises(openai.BadRequestError, match="too many"):
        served.ask(prompt="import " * 600)
    assert [card.id for card in served.client.models.list()] == [MODEL]


def test_a_model_that_is_not_there_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    manifest, log, mark = tmp_path / "manifest.yaml", tmp_path / "stderr", uuid.uuid4().hex
    text = (REPOSITORY / "examples/gpt2-small.yaml").read_text()
    manifest.write_text(text.replace("pvc://models/gpt2-small", "pvc://models/gpt3"))
    server = _start(manifest, _free_port(), mark, log)
    answer, _ = server.communicate(timeout=200)
    assert (server.returncode, answer) == (1, "")
    assert f"{MODEL}: ModelNotFound: pvc://models/gpt3: no folder gpt3" in log.read_text()
    assert _soon(lambda: not _left_over(mark), 10), _left_over(mark)
