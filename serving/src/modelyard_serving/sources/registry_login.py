"""Credentials for a registry, as Docker and its like keep them: the content of a `.dockerconfigjson` Secret."""

import base64
import binascii
import os
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

DOCKER_AUTH = "DOCKER_AUTH_CONFIG"
"""The variable with the JSON itself; without it the file that `docker login` writes is read."""


class WrongAuthConfig(ValueError):
    """What should hold credentials cannot be read; the text never has any of it."""


@dataclass(frozen=True)
class Login:
    """A name and a password."""

    username: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """The value of `Authorization` (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class _Entry(BaseModel):
    auth: str = ""
    username: str = ""
    password: str = ""


class _Config(BaseModel):
    auths: dict[str, _Entry] = Field(default_factory=dict)


def login_for(registry: str) -> Login | None:
    """What is kept for `registry` (`host` or `host:port`); None where that is nothing.

    Raises:
        WrongAuthConfig: it is there and cannot be read.
    """
    source, text = _kept()
    if not text:
        return None
    try:
        entries = _Config.model_validate_json(text).auths
    except ValidationError:
        raise WrongAuthConfig(f"{source} is not the JSON of a .dockerconfigjson") from None
    entry = next((each for name, each in entries.items() if _host(name) == registry), None)
    if entry is None or not (entry.auth or entry.username):
        return None
    if not entry.auth:
        return Login(entry.username, entry.password)
    try:
        username, colon, password = base64.b64decode(entry.auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise WrongAuthConfig(f"{source}: auth of {registry} is not the base64 of a name, a colon and a password")
    return Login(username, password)


def _kept() -> tuple[str, str]:
    """Where credentials are kept, and what is there."""
    if text := os.environ.get(DOCKER_AUTH):
        return DOCKER_AUTH, text
    folder = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    path = Path(folder) / "config.json"
    try:
        return str(path), path.read_text()
    except OSError:
        return str(path), ""


def _host(name: str) -> str:
    return name.partition("://")[2].partition("/")[0] if "://" in name else name.partition("/")[0]
