"""How far a revision's download is, from Ray's own metrics of a pod."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from modelyard_operator.api.quantity import format_bytes
from modelyard_serving.contract import DOWNLOAD_BYTES, DOWNLOAD_DONE_BYTES

_SAMPLE = re.compile(rf"ray_({DOWNLOAD_BYTES}|{DOWNLOAD_DONE_BYTES})\{{(.*)\}} (\d[\d.e+]*)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Download:
    """What is there of a download."""

    size: int
    done: int
    per_second: int | None = None
    """Bytes; None where there was but one look."""

    def words(self) -> str:
        """For a message."""
        rate = f", {format_bytes(self.per_second)}/s" if self.per_second else ""
        return f"{format_bytes(self.done)} of {format_bytes(self.size)}{rate}"


def read_download(lines: Iterable[str], service: str, revision: str) -> Download | None:
    """What the lines of a scrape say of the download for a revision, the furthest one of several replicas."""
    found: dict[str, int] = {}
    for line in lines:
        sample = _SAMPLE.match(line)
        if sample is None:
            continue
        labels = dict(_LABEL.findall(sample[2]))
        if (labels.get("service"), labels.get("revision")) == (service, revision):
            found[sample[1]] = max(found.get(sample[1], 0), int(float(sample[3])))
    if DOWNLOAD_BYTES not in found:
        return None
    return Download(found[DOWNLOAD_BYTES], min(found[DOWNLOAD_BYTES], found.get(DOWNLOAD_DONE_BYTES, 0)))
