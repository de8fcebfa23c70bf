"""Ranking what a recommender's program scores."""

from collections.abc import Sequence

import torch

from modelyard_serving.models.catalogue import Ranked, Wish
from modelyard_serving.models.program import Program
from modelyard_serving.package.description import INPUT_OF_USERS, SCORES


class RankedItems:
    """Computes the best items of each wish of a batch.

    Requests with fewer items than others of the batch, or than `least`, are filled up with a place that is no item's.
    """

    def __init__(self, program: Program, *, items: int, least: int) -> None:
        self._program = program
        [self._input] = program.signature.inputs
        self._items = items
        self._least = least

    def __call__(self, batch: Sequence[Wish]) -> list[Ranked]:
        """At most `k` for each: those that are left out, and those without a finite score, are not told."""
        scores = self.scores([wish.places for wish in batch])
        return [_best(row, wish) for row, wish in zip(scores, batch, strict=True)]

    def scores(self, wishes: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """float32 (wishes, items): what the program says of each item."""
        if self._input.name == INPUT_OF_USERS:
            given = torch.tensor([place for [place] in wishes])
        else:
            length = max(self._least, *(len(places) for places in wishes))
            given = torch.tensor([[*places, *[self._items] * (length - len(places))] for places in wishes])
        return self._program({self._input.name: given})[SCORES].float()


def _best(scores: torch.Tensor, wish: Wish) -> Ranked:
    told = scores.where(scores.isfinite(), -torch.inf)
    if wish.left_out:
        told[list(wish.left_out)] = -torch.inf
    best = told.topk(min(wish.k, len(told)))
    found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    # Those with equal scores in the catalogue's order, whatever order topk has found them in.
    return sorted(((place, score) for place, score in found if score > -torch.inf), key=lambda one: (-one[1], one[0]))
