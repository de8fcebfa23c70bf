"""How many words are wrong."""

from collections.abc import Sequence

from transformers.models.whisper.english_normalizer import EnglishTextNormalizer


def wrong_words(said: str, written: str) -> tuple[int, int]:
    """Words to put in, take out or replace, and how many were said; both texts as Whisper's authors compare them."""
    normalize = EnglishTextNormalizer({})
    wanted, found = normalize(said).split(), normalize(written).split()
    return _distance(wanted, found), len(wanted)


def _distance(wanted: Sequence[str], found: Sequence[str]) -> int:
    """Levenshtein's."""
    row = list(range(len(found) + 1))
    for place, word in enumerate(wanted, start=1):
        before, row[0] = row[0], place
        for at, other in enumerate(found, start=1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (word != other))
    return row[-1]
