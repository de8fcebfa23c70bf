"""What the examples have in common."""

import torch
from examples.flow.evaluation import accuracy, confusion_matrix
from examples.flow.splits import split


def test_every_sample_is_in_one_part_and_always_the_same() -> None:
    one, again, other = split(1000, seed=3), split(1000, seed=3), split(1000, seed=4)
    assert [len(part) for part in (one.train, one.validation, one.test)] == [700, 100, 200]
    assert torch.cat([one.train, one.validation, one.test]).sort().values.tolist() == list(range(1000))
    assert one.test.tolist() == again.test.tolist() != other.test.tolist()


def test_what_was_taken_for_what() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, 3.0, 0.0], [0.0, 0.0, 9.0]])
    labels = torch.tensor([0, 2, 1, 2])
    assert confusion_matrix(logits, labels).tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert accuracy(logits, labels) == 0.75
