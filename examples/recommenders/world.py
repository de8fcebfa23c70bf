"""A world with known tastes, in which the best possible recommender is known too.

Every user and every item has a point in the space of tastes; an item is also more or less popular. Users take items
at random, the better the likelier. Nobody can foresee the random part: who ranks by the true tastes reaches the
*ceiling*.
"""

from dataclasses import dataclass

import torch

USERS, ITEMS = 1500, 300
TASTES = 6
TAKEN, HELD_OUT = 30, 6
"""Items of each user: so many in all, of which so many are kept for measuring."""
SHARPNESS = 2.0
"""How much tastes decide; at 0 all is chance."""


@dataclass(frozen=True)
class World:
    """Who takes what, and why. Users and items are known by their places."""

    affinity: torch.Tensor
    """float32 (users, items): the truth, which no recommender sees."""
    had: torch.Tensor
    """float32 (users, items): 1 where a user has had the item; what recommenders learn from."""
    held_out: torch.Tensor
    """int64 (users, HELD_OUT): items that the user took afterwards."""

    @property
    def user_ids(self) -> tuple[str, ...]:
        return tuple(f"user-{place:04}" for place in range(len(self.had)))

    @property
    def item_ids(self) -> tuple[str, ...]:
        return tuple(f"item-{place:03}" for place in range(self.had.shape[1]))

    def history(self, user: int) -> list[int]:
        """The places of what the user has had."""
        places: list[int] = self.had[user].nonzero()[:, 0].tolist()
        return places


def make_world(seed: int) -> World:
    """The same world for the same seed."""
    chance = torch.Generator().manual_seed(seed)
    users = torch.randn(USERS, TASTES, generator=chance)
    items = torch.randn(ITEMS, TASTES, generator=chance)
    popularity = torch.randn(ITEMS, generator=chance)
    affinity = SHARPNESS * (users @ items.T) / TASTES**0.5 + 0.5 * popularity
    # Gumbel's trick: the largest of scores with this noise are drawn, without return, as a softmax would.
    noise = -torch.log(-torch.log(torch.rand(USERS, ITEMS, generator=chance)))
    taken = (affinity + noise).topk(TAKEN, dim=1).indices
    shuffled = taken.gather(1, torch.rand(USERS, TAKEN, generator=chance).argsort(1))
    held_out, known = shuffled[:, :HELD_OUT], shuffled[:, HELD_OUT:]
    return World(affinity, torch.zeros(USERS, ITEMS).scatter(1, known, 1.0), held_out)


def recall(scores: torch.Tensor, world: World, *, k: int) -> float:
    """The share of what was held out that is among the `k` best of what users have not had."""
    best = scores.masked_fill(world.had > 0, -torch.inf).topk(k, dim=1).indices
    found = (best[:, :, None] == world.held_out[:, None, :]).any(1)
    return float(found.float().mean())
