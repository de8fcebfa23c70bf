"""Clients that all ask at once, over HTTP with streaming, and what they saw."""

import asyncio
import json
import random
import time
from dataclasses import dataclass
from statistics import median

import aiohttp

PROMPT_TOKENS = 100
NEW_TOKENS = 64
VOCABULARY = range(1000, 40_000)
"""Plain tokens of the model; random ones, so that no prompt begins as another."""


@dataclass(frozen=True)
class Round:
    """One wave: every client asked one question."""

    clients: int
    tokens_per_s: float
    first_token_s: float
    """The median client's."""


async def wave(url: str, model: str, clients: int, *, seed: int) -> Round:
    """All clients ask at the same moment; ends when the last has its answer."""
    prompts = random.Random(seed)
    bodies = [
        {
            "model": model, "prompt": [prompts.choice(VOCABULARY) for _ in range(PROMPT_TOKENS)],
            "max_tokens": NEW_TOKENS, "temperature": 0, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True},
        }
        for _ in range(clients)
    ]  # fmt: skip
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as session:
        began = time.monotonic()
        firsts = await asyncio.gather(*(_ask(session, url, body) for body in bodies))
        seconds = time.monotonic() - began
    return Round(clients, clients * NEW_TOKENS / seconds, median(firsts))


async def _ask(session: aiohttp.ClientSession, url: str, body: dict[str, object]) -> float:
    """Seconds to the first text; raises unless the answer is whole."""
    began, first, made = time.monotonic(), None, 0
    async with session.post(f"{url}/completions", json=body) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {await answer.text()}")
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if first is None and event["choices"]:
                first = time.monotonic() - began
            if event.get("usage"):
                made = event["usage"]["completion_tokens"]
    if made != NEW_TOKENS or first is None:
        raise RuntimeError(f"{made} tokens came instead of {NEW_TOKENS}")
    return first
