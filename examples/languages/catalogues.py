"""Texts in twenty languages: the messages of Django and their translations (BSD-3-Clause)."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from examples.flow.data import DJANGO, data_of
from examples.flow.splits import Split, split

SOURCE = "en"
"""The language of the messages themselves."""
LANGUAGES = (
    "ar", "cs", "de", "el", SOURCE, "es", "fi", "fr", "he", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "tr",
    "zh_Hans",
)  # fmt: skip
LENGTH = 64
"""Bytes that a network reads."""
LEAST = 16
"""Bytes of a text that is worth a guess."""

_NO_LANGUAGE = re.compile(r"%\(\w+\)[sd]|%[sd]|\{[^}]*\}|<[^>]*>|&\w+;")


@dataclass(frozen=True)
class Texts:
    """Texts as bytes, divided by message: no message is learnt in one language and asked in another."""

    texts: tuple[str, ...]
    bytes: torch.Tensor
    """uint8 (texts, LENGTH), filled up with 0."""
    languages: torch.Tensor
    """int64 (texts): places in LANGUAGES."""
    split: Split


def load() -> Texts:
    """Read the catalogues; the split is always the same.

    Raises:
        StepError: the package could not be installed.
    """
    return gather(data_of(DJANGO) / "django")


def gather(root: Path) -> Texts:
    """The texts of the catalogues (`locale/<language>/LC_MESSAGES/django.po`) anywhere under `root`."""
    messages: dict[str, dict[str, str]] = {}
    for language in LANGUAGES:
        for file in sorted(root.glob(f"**/locale/{language}/LC_MESSAGES/django.po")):
            for message, text in read_catalogue(file.read_text(encoding="utf-8")):
                messages.setdefault(message, {SOURCE: plain(message)})[language] = plain(text)
    names = sorted(messages)
    part_of = split(len(names), seed=0)
    texts: list[str] = []
    languages: list[int] = []
    parts = []
    for part in (part_of.train, part_of.validation, part_of.test):
        begin = len(texts)
        for language, text in _distinct([messages[names[place]] for place in part.tolist()]):
            texts.append(text)
            languages.append(LANGUAGES.index(language))
        parts.append(torch.arange(begin, len(texts)))
    return Texts(tuple(texts), torch.stack([encode(text) for text in texts]), torch.tensor(languages), Split(*parts))


def _distinct(messages: list[dict[str, str]]) -> list[tuple[str, str]]:
    """(language, text) of what is long enough; a text that two languages share tells neither."""
    owners: dict[str, set[str]] = {}
    for translations in messages:
        for language, text in translations.items():
            if len(text.encode()) >= LEAST:
                owners.setdefault(text, set()).add(language)
    return [(language, text) for text, [language, *others] in owners.items() if not others]


def read_catalogue(text: str) -> Iterator[tuple[str, str]]:
    """The messages of a catalogue in gettext's format with their (first) translations; fuzzy and empty ones are not.

    Format: https://www.gnu.org/software/gettext/manual/html_node/PO-Files.html
    """
    for entry in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        field = ""
        for line in entry.splitlines():
            keyword, quote, rest = line.partition('"')
            if line.startswith("#") or not quote:
                continue
            field = keyword.strip() or field
            fields[field] = fields.get(field, "") + ast.literal_eval(quote + rest)
        translated = fields.get("msgstr") or fields.get("msgstr[0]")
        if fields.get("msgid") and translated and not re.search(r"^#,.*\bfuzzy\b", entry, re.M):
            yield fields["msgid"], translated


def plain(text: str) -> str:
    """The words, without what is no language: placeholders and markup."""
    return " ".join(_NO_LANGUAGE.sub(" ", text).split())


def encode(text: str) -> torch.Tensor:
    """uint8 (LENGTH): the first bytes of a text in UTF-8, filled up with 0. A client does the same."""
    first = text.encode()[:LENGTH]
    return torch.tensor([*first, *[0] * (LENGTH - len(first))], dtype=torch.uint8)
