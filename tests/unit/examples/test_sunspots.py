"""Windows over the years."""

from pathlib import Path

from examples.sunspots.series import AHEAD, MEASURED_FROM, PAST, windows_of


def test_no_year_that_is_measured_is_learnt_from(tmp_path: Path) -> None:
    file = tmp_path / "sunspots.csv"
    file.write_text('"YEAR","SUNACTIVITY"\n' + "".join(f"{year},{year}\n" for year in range(1700, 2009)))
    learnt, measured = windows_of(file)
    assert (learnt.past.shape[1], learnt.ahead.shape[1]) == (PAST, AHEAD)
    assert learnt.past.min() == 1700
    assert learnt.ahead.max() == MEASURED_FROM - 1
    assert measured.ahead.min() == MEASURED_FROM
    assert measured.ahead.max() == 2008
    assert (measured.past[:, -1] + 1).tolist() == measured.ahead[:, 0].tolist()
