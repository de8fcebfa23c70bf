"""What an answer must look like, as a request says it."""

from dataclasses import dataclass
from typing import Literal

FormKind = Literal["json_schema", "regex", "choice"]


class InvalidForm(Exception):
    """The form cannot be held: its text says what of it."""


@dataclass(frozen=True)
class AnswerForm:
    """A form by its text: a JSON Schema, a regular expression as Rust writes them, or a JSON list of texts."""

    kind: FormKind
    text: str
    field: str
    """Where the request says so."""
