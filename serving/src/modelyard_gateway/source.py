"""Where route documents come from, and where the last good one is kept."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from modelyard_gateway.routes import RouteDocument

logger = logging.getLogger(__name__)


class DocumentSource(Protocol):
    """Yields the text of the route document: where there is one, and whenever it may have changed."""

    def documents(self) -> AsyncIterator[str]:
        """Never ends and never raises for what may pass, such as an API server that is down."""


class FileSource:
    """Documents from a file that another process replaces."""

    def __init__(self, path: Path, *, interval_s: float = 0.5) -> None:
        self._path = path
        self._interval_s = interval_s

    async def documents(self) -> AsyncIterator[str]:
        """Read the file every interval; a file that is not there is no document."""
        last = None
        while True:
            text = await asyncio.to_thread(self._read)
            if text is not None and text != last:
                last = text
                yield text
            await asyncio.sleep(self._interval_s)

    def _read(self) -> str | None:
        try:
            return self._path.read_text()
        except OSError:
            return None


class KeptDocument:
    """The last good document on disk, for a restart while the source is down."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> RouteDocument | None:
        """The document, or None where none was kept or what is there cannot be read."""
        try:
            return RouteDocument.from_json(self._path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning("the kept document %s is of no use: %s", self._path.name, error)
            return None

    def write(self, document: RouteDocument) -> None:
        """Replace the kept document, whole or not at all."""
        beside = self._path.with_suffix(".new")
        beside.write_text(document.to_json())
        beside.replace(self._path)
