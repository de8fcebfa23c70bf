"""Clients that send one jpeg after the other, and what they saw."""

import asyncio
import base64
import io
import json
import time
from dataclasses import dataclass
from statistics import median

import aiohttp
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 640, 480


@dataclass(frozen=True)
class Round:
    """Every client sent its pictures."""

    clients: int
    pictures_per_s: float
    answer_s: float
    """The median answer's."""


@dataclass(frozen=True)
class Target:
    """Where a server takes pictures, as the body itself or in base64 in JSON."""

    url: str
    in_json: bool = False


def photographs(count: int) -> list[bytes]:
    """Jpegs of 640 x 480 pixels with about as much detail as photographs: some 100 kB each, always the same."""
    random = np.random.default_rng(7)
    made = []
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize((WIDTH, HEIGHT))
        grain = random.normal(0, 10, (HEIGHT, WIDTH, 1))
        pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=85)
        made.append(file.getvalue())
    return made


async def wave(target: Target, pictures: list[bytes], clients: int, each: int) -> Round:
    """`clients` at once, each with `each` pictures one after the other."""
    bodies = [_body(target, picture) for picture in pictures]
    kind = {"Content-Type": "application/json" if target.in_json else "image/jpeg"}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600), headers=kind) as session:
        began = time.monotonic()
        answers = await asyncio.gather(*(_ask(session, target.url, bodies, first, each) for first in range(clients)))
        seconds = time.monotonic() - began
    return Round(clients, clients * each / seconds, median(took for client in answers for took in client))


def _body(target: Target, picture: bytes) -> bytes:
    return json.dumps({"image": base64.b64encode(picture).decode()}).encode() if target.in_json else picture


async def _ask(session: aiohttp.ClientSession, url: str, bodies: list[bytes], first: int, each: int) -> list[float]:
    took = []
    for number in range(each):
        began = time.monotonic()
        async with session.post(url, data=bodies[(first + number) % len(bodies)]) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {text}")
        took.append(time.monotonic() - began)
    return took
