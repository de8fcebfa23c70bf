"""The Serve REST API and the replicas' proof over HTTP."""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from pydantic import ValidationError

from modelyard_operator.observed.downloads import Download, read_download
from modelyard_operator.ray.client import ConfigRefused, Proof, ServeClient, ServeUnreachable
from modelyard_serving import contract

READ_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 30.0
"""The first PUT starts Serve on the head, which takes seconds."""
METRICS_TIMEOUT_S = 5.0
MAX_METRICS_BYTES = 8 * 2**20
MAX_TEXT = 2000
"""Characters of an answer that are kept for a message."""

_APPLICATIONS = "/api/serve/applications/"


_REMEMBERED = 200
"""Heads whose last answer is kept; it is 100 kB for 50 applications."""
_PASSING = ', "controller_health_metrics": '
"""Where Ray's answer ends with how its controller fares at this moment, which is never the same."""


class _Answers:
    """The last answer of each head: at rest it gives the same one again, and that need not be parsed."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, tuple[str, Mapping[str, Any]]] = OrderedDict()

    def read(self, url: str, text: str) -> Mapping[str, Any] | None:
        """The object in an answer, which nobody may change; None where there is none.

        The same one as before where nothing differs but how the controller fares.
        """
        known, lasting = self._last.get(url), _lasting(text)
        if known is not None and known[0] == lasting:
            return known[1]
        body = _object(text)
        if body is not None:
            self._last[url] = lasting, body
            self._last.move_to_end(url)
            if len(self._last) > _REMEMBERED:
                self._last.popitem(last=False)
        return body


class HttpServeClients:
    """Serve clients that share one session; `observe` is told how each PUT ends: ok, refused, unreachable."""

    def __init__(self, session: aiohttp.ClientSession, observe: Callable[[str], None] | None = None) -> None:
        self._session = session
        self._observe = observe or (lambda outcome: None)
        self._answers = _Answers()

    def client(self, address: str, token: str) -> ServeClient:
        return HttpServeClient(self._session, address, token, observe=self._observe, answers=self._answers)


class HttpServeClient:
    """The Serve REST API of one Ray cluster; see `ray.client.ServeClient` for the contract."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        address: str,
        token: str,
        *,
        observe: Callable[[str], None],
        answers: _Answers,
    ) -> None:
        self._session = session
        self._url = f"http://{address}{_APPLICATIONS}"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._observe = observe
        self._answers = answers

    async def details(self) -> Mapping[str, Any]:
        code, text = await self._exchange("GET", READ_TIMEOUT_S)
        if code != 200:
            raise ServeUnreachable(f"GET {self._url} answered {code}: {text[:MAX_TEXT]}")
        body = self._answers.read(self._url, text)
        if body is None:
            raise ServeUnreachable(f"GET {self._url} did not answer with a JSON object")
        return body

    async def put(self, config: Mapping[str, Any]) -> None:
        outcome = "unreachable"
        try:
            code, text = await self._exchange("PUT", WRITE_TIMEOUT_S, config)
            if code == 400:
                outcome = "refused"
                raise ConfigRefused(text[:MAX_TEXT])
            if code != 200:
                raise ServeUnreachable(f"PUT {self._url} answered {code}: {text[:MAX_TEXT]}")
            outcome = "ok"
        finally:
            self._observe(outcome)

    async def _exchange(self, method: str, timeout_s: float, body: Mapping[str, Any] | None = None) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.request(
                method, self._url, json=body, headers=self._headers, timeout=timeout, allow_redirects=False
            ) as answer:
                return answer.status, await answer.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServeUnreachable(f"{method} {self._url}: {str(error) or type(error).__name__}") from error


class HttpProber:
    """Asks a revision to prove itself; see `ray.client.Prober` for the contract."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def prove(self, address: str, prefix: str, *, timeout_s: float) -> Proof:
        begun = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.get(f"http://{address}{prefix}{contract.PROVE_PATH}", timeout=timeout) as answer:
                code, text = answer.status, await answer.text(errors="replace")
        except TimeoutError:
            return Proof(ok=False, message=f"no answer within {timeout_s:g} s", seconds=time.monotonic() - begun)
        except (aiohttp.ClientError, OSError) as error:
            message = str(error) or type(error).__name__
            return Proof(ok=False, message=message, seconds=time.monotonic() - begun)
        return _proof(code, text, prefix, time.monotonic() - begun)

    async def download(self, address: str, service: str, revision: str) -> Download | None:
        timeout = aiohttp.ClientTimeout(total=METRICS_TIMEOUT_S)
        try:
            async with self._session.get(f"http://{address}/metrics", timeout=timeout, allow_redirects=False) as answer:
                text = await _beginning(answer.content, MAX_METRICS_BYTES)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
        return read_download(text.decode(errors="replace").splitlines(), service, revision)


def _proof(code: int, text: str, prefix: str, seconds: float) -> Proof:
    """Read the replica's answer, which must come from the revision that was asked."""
    if code != 200:
        return Proof(ok=False, message=_complaint(_object(text) or {}, code, text), seconds=seconds)
    try:
        answer = contract.Proof.model_validate_json(text)
    except ValidationError:
        return Proof(ok=False, message=f"answered with no proof: {text[:300].strip()}", seconds=seconds)
    if not prefix.endswith(f"/{answer.service}/{answer.revision}"):
        message = f"revision {answer.revision} of {answer.service} answered in its place"
        return Proof(ok=False, message=message, seconds=seconds)
    start = answer.start
    ledger = {"imports": start.imports_s, "load": start.load_s, "warmup": start.warmup_s}
    if start.download_s is not None:
        ledger["download"] = start.download_s
    return Proof(ok=True, message="", seconds=answer.seconds, ledger=ledger)


def _complaint(body: Mapping[str, Any], code: int, text: str) -> str:
    """The message of an error in OpenAI's shape, or else the beginning of whatever was said."""
    error = body.get("error")
    if isinstance(error, dict) and error.get("message"):
        return str(error["message"])[:MAX_TEXT]
    return f"answered {code}: {text[:300].strip()}"


async def _beginning(stream: aiohttp.StreamReader, most: int) -> bytes:
    """All of a body, or its first `most` bytes."""
    begun = b""
    async for part in stream.iter_chunked(2**16):
        begun += part
        if len(begun) >= most:
            break
    return begun[:most]


def _lasting(text: str) -> str:
    """An answer up to how the controller fares; all of it where that is not known to be at its end."""
    lasting, found, rest = text.rpartition(_PASSING)
    # What is deeper in the answer, or comes before the applications, does not end as this must.
    end = _object(f'{{"fares": {rest}') if found else None
    return text if end is None or "applications" in end else lasting


def _object(text: str) -> Mapping[str, Any] | None:
    try:
        body = json.loads(text)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
