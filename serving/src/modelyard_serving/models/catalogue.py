"""The ids of a recommender's users and items, and what each user has had, from the files of its package."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from modelyard_serving.models.folder import ModelFiles
from modelyard_serving.package.description import Recommendation

MAX_ID = 256
"""Characters of an id."""

Ranked = list[tuple[int, float]]
"""Places of items with their scores, best first."""


@dataclass(frozen=True)
class Wish:
    """What to rank: by the place of a user, or by the places of items; and what not to tell of."""

    places: tuple[int, ...]
    left_out: frozenset[int]
    k: int


@dataclass(frozen=True)
class Catalogue:
    """What the numbers of a program stand for."""

    items: tuple[str, ...]
    users: tuple[str, ...] | None
    """None: the program takes items."""
    seen: "Seen | None"

    @cached_property
    def place_of_item(self) -> Mapping[str, int]:
        """An item's place among the scores."""
        return {name: place for place, name in enumerate(self.items)}

    @cached_property
    def place_of_user(self) -> Mapping[str, int]:
        """A user's place for the program; empty where it takes items."""
        return {name: place for place, name in enumerate(self.users or ())}


@dataclass(frozen=True)
class Seen:
    """What users have had: those of user `u` are `items[offsets[u]:offsets[u + 1]]`, places in the catalogue."""

    offsets: Any
    items: Any

    def of(self, user: int) -> frozenset[int]:
        """The items that the user at this place has had."""
        return frozenset(self.items[self.offsets[user] : self.offsets[user + 1]].tolist())


def read_catalogue(files: ModelFiles, described: Recommendation, scores: int) -> Catalogue:
    """Read the ids of a program that gives so many scores.

    Raises:
        StartFailure: a file is damaged or has more or fewer ids than the program scores.
    """
    items = _read_ids(files, described.items)
    if len(items) != scores:
        raise files.invalid(f"{described.items} has {len(items)} ids, but the program scores {scores} items")
    users = None if described.users is None else _read_ids(files, described.users)
    seen = None
    if described.seen is not None and users is not None:
        seen = _read_seen(files, described.seen, users=len(users), items=len(items))
    return Catalogue(items, users, seen)


def _read_ids(files: ModelFiles, name: str) -> tuple[str, ...]:
    try:
        ids = tuple((files.path / name).read_text(encoding="utf-8").removesuffix("\n").split("\n"))
    except UnicodeDecodeError as error:
        raise files.invalid(f"{name} is not UTF-8: {error}") from error
    places: dict[str, int] = {}
    for number, each in enumerate(ids, 1):
        if not 1 <= len(each) <= MAX_ID:
            raise files.invalid(f"{name}: the id in line {number} has {len(each)} characters; 1 to {MAX_ID} are taken")
        if places.setdefault(each, number) != number:
            raise files.invalid(f"{name}: {each!r} is in line {places[each]} and again in line {number}")
    return ids


def _read_seen(files: ModelFiles, name: str, *, users: int, items: int) -> Seen:
    try:
        tensors = load_file(files.path / name)
        offsets, seen = tensors["offsets"], tensors["items"]
    except (SafetensorError, KeyError, OSError) as error:
        raise files.invalid(f"{name} is no safetensors file with the tensors offsets and items: {error}") from error
    if offsets.dtype != np.int64 or seen.dtype != np.int64 or offsets.shape != (users + 1,) or seen.ndim != 1:
        raise files.invalid(f"{name}: offsets must be int64 ({users + 1},) and items int64 of one dimension")
    if offsets[0] != 0 or offsets[-1] != len(seen) or (np.diff(offsets) < 0).any():
        raise files.invalid(f"{name}: offsets must go from 0 to the number of items, {len(seen)}, and never back")
    if len(seen) and not (seen.min() >= 0 and seen.max() < items):
        raise files.invalid(f"{name}: items has a place that is none of the {items} items'")
    return Seen(offsets, seen)
