"""Recommend: a user or items in, the items that suit best out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelyard_serving.engines.dynamic_batching import Item
from modelyard_serving.models.catalogue import Catalogue, Ranked, Wish
from modelyard_serving.tasks.batched import BatchedModel
from modelyard_serving.tasks.invalid import InvalidInput

SHOWN = 3


@dataclass(frozen=True)
class Asked:
    """For whom, in ids: a user, or somebody who has these items."""

    user_id: str | None
    items: tuple[str, ...]
    exclude: tuple[str, ...]
    """Ids that are not to be told; those that the model does not know it never tells anyway."""
    exclude_seen: bool | None
    """None: what the user has had is left out where it is known."""
    k: int


class Recommender:
    """A program behind the engine, with the ids of its users and items. `most_items` is how many it takes at once."""

    def __init__(self, model: BatchedModel[Wish, Ranked], catalogue: Catalogue, *, most_items: int) -> None:
        self._model = model
        self._catalogue = catalogue
        self._most_items = most_items

    async def recommend(self, asked: Asked, *, timeout_s: float) -> list[tuple[str, float]]:
        """At most `k` ids with their scores, best first.

        Raises:
            InvalidInput: an id is not known, or the model does not recommend by what is given.
            QueueFull, TimeoutError, EngineFailed: as `BatchedModel.run` does.
        """
        wish = self._wish(asked)
        [ranked] = await self._model.run([Item(wish, len(wish.places))], timeout_s=timeout_s)
        return [(self._catalogue.items[place], score) for place, score in ranked]

    def _wish(self, asked: Asked) -> Wish:
        known = self._catalogue.place_of_item
        places, seen = self._user(asked) if self._catalogue.users is not None else self._items(asked)
        left_out = {known[name] for name in asked.exclude if name in known}
        return Wish(places, frozenset(left_out if asked.exclude_seen is False else left_out | seen), asked.k)

    def _user(self, asked: Asked) -> tuple[tuple[int, ...], frozenset[int]]:
        if asked.user_id is None:
            raise InvalidInput("items", "this model recommends to users that it knows; send user_id")
        [place] = _places("user_id", "user", [asked.user_id], self._catalogue.place_of_user)
        if self._catalogue.seen is not None:
            return (place,), self._catalogue.seen.of(place)
        if asked.exclude_seen:
            raise InvalidInput(
                "exclude_seen", "the model's package does not say what users have had; send it as exclude"
            )
        return (place,), frozenset()

    def _items(self, asked: Asked) -> tuple[tuple[int, ...], frozenset[int]]:
        if asked.user_id is not None:
            raise InvalidInput("user_id", "this model knows no users; send items that the user has had")
        if len(asked.items) > self._most_items:
            raise InvalidInput("items", f"has {len(asked.items)} ids; the model takes {self._most_items} at most")
        places = tuple(_places("items", "item", asked.items, self._catalogue.place_of_item))
        return places, frozenset(places)


def _places(field: str, kind: str, ids: Sequence[str], known: Mapping[str, int]) -> list[int]:
    strange = [name for name in ids if name not in known]
    if strange:
        shown = ", ".join(map(repr, strange[:SHOWN])) + (f" and {len(strange) - SHOWN} more" * (len(strange) > SHOWN))
        raise InvalidInput(field, f"the model knows no {kind} {shown}; it was trained without", code="unknown_id")
    return [known[name] for name in ids]
