"""The made-up world and what learns in it."""

import pytest
import torch
from examples.recommenders.factors import factorise
from examples.recommenders.neighbours import find_neighbours
from examples.recommenders.world import HELD_OUT, ITEMS, TAKEN, World, make_world, recall


def test_what_is_held_out_is_not_known_and_the_truth_is_the_ceiling() -> None:
    world = make_world(5)
    assert set(world.had.sum(1).tolist()) == {TAKEN - HELD_OUT}
    assert world.had.gather(1, world.held_out).sum() == 0
    assert torch.equal(world.held_out, make_world(5).held_out)
    assert recall(world.affinity, world, k=ITEMS) == 1
    ceiling = recall(world.affinity, world, k=10)
    popular = recall(world.had.sum(0).expand(world.had.shape), world, k=10)
    assert 3 * popular < ceiling < 1


def test_recall_counts_what_is_found_among_what_is_new() -> None:
    had, held_out = torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[1, 3]])
    world = World(torch.zeros(1, 4), had, held_out)
    assert recall(torch.tensor([[9.0, 8, 7, 6]]), world, k=2) == 0.5
    assert recall(torch.tensor([[9.0, 8, 7, 6]]), world, k=3) == 1


def test_factors_find_two_tastes() -> None:
    torch.manual_seed(0)
    had = torch.zeros(8, 6)
    had[:4, :3], had[4:, 3:] = 1, 1
    had[0, 2] = had[7, 3] = 0
    scores = factorise(had, factors=2, shrink=0.1)(torch.tensor([0, 7]))["scores"]
    assert scores[0, 2] > 0.5 > scores[0, 3:].max()
    assert scores[1, 3] > 0.5 > scores[1, :3].max()


def test_neighbours_are_near_by_the_cosine_of_their_users() -> None:
    had = torch.tensor([[1.0, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]])
    network = find_neighbours(had, count=1)
    scores = network(torch.tensor([[0, 4], [3, 4], [1, 2]]))["scores"]
    near = 2 / (3 * 2) ** 0.5
    assert scores[0].tolist() == pytest.approx([float("-inf"), near, float("-inf"), float("-inf")])
    assert scores[1].tolist() == [float("-inf")] * 4
    assert scores[2, 0] == pytest.approx(near + 1 / (3 * 2) ** 0.5)
