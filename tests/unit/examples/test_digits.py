"""Reading digits."""

import gzip
from pathlib import Path

import torch
from examples.digits.build import shifted
from examples.digits.data import UCI


def test_a_row_is_a_picture_and_its_label(tmp_path: Path) -> None:
    file = tmp_path / "digits.csv.gz"
    rows = [[0] * 63 + [16, 7], [8] + [0] * 63 + [3]] * 5
    file.write_bytes(gzip.compress("\n".join(",".join(map(str, row)) for row in rows).encode()))
    digits = UCI.read(file)
    assert digits.images.shape == (10, 1, 8, 8)
    assert digits.labels[:2].tolist() == [7, 3]
    assert digits.images[0].flatten().tolist() == [0] * 63 + [255]
    assert digits.images[1, 0, 0, 0] == 128


def test_shifting_moves_a_picture_by_two_pixels_at_most() -> None:
    torch.manual_seed(0)
    picture = torch.zeros(1, 1, 28, 28)
    picture[0, 0, 14, 14] = 1
    places = {tuple(shifted(picture)[0, 0].nonzero()[0].tolist()) for _ in range(300)}
    assert places == {(down, right) for down in range(12, 17) for right in range(12, 17)}
