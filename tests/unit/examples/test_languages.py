"""Reading message catalogues."""

from pathlib import Path

import pytest
from examples.languages.catalogues import LANGUAGES, LENGTH, encode, gather, plain, read_catalogue

CATALOGUE = r"""
# A comment with "quotes"
msgid ""
msgstr "Language: de\n"

#: views.py
msgid "Enter a date."
msgstr "Ein \"Datum\" "
"eingeben."

#, fuzzy, python-format
msgid "A guess."
msgstr "Geraten."

msgid "%d day"
msgid_plural "%d days"
msgstr[0] "%d Tag"
msgstr[1] "%d Tage"

msgid "Not yet."
msgstr ""

#~ msgid "Old."
#~ msgstr "Alt."
"""


def test_a_catalogue_is_read_as_gettext_reads_it() -> None:
    assert list(read_catalogue(CATALOGUE)) == [("Enter a date.", 'Ein "Datum" eingeben.'), ("%d day", "%d Tag")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("%(count)d von %(all)s", "von"),
        ("<a href='x'>Seite</a>\n&amp; mehr", "Seite mehr"),
        ("{name} hat 5%\tzu viel", "hat 5% zu viel"),
    ],
)
def test_what_is_no_language_is_taken_out(text: str, words: str) -> None:
    assert plain(text) == words


def test_a_text_is_its_first_bytes() -> None:
    assert encode("é").tolist() == [0xC3, 0xA9] + [0] * (LENGTH - 2)
    assert bytes(encode("ab" * LENGTH).tolist()) == b"ab" * (LENGTH // 2)


def test_no_message_is_on_both_sides_and_no_shared_text_is_anywhere(tmp_path: Path) -> None:
    for language, word in (("de", "Nachricht"), ("fr", "message"), ("es", "message")):
        file = tmp_path / "locale" / language / "LC_MESSAGES" / "django.po"
        file.parent.mkdir(parents=True)
        shared = 'msgid "Shared by two languages"\nmsgstr "un mot que deux partagent"\n' if language != "de" else ""
        own = [f'msgid "The message number {n} of many"\nmsgstr "{word} {language} {n:02} hier"\n' for n in range(20)]
        file.write_text("\n".join([*own, shared]))
    texts = gather(tmp_path)
    number_of = [[int(part) for part in text.split() if part.isdigit()] for text in texts.texts]
    train = {number_of[place][0] for place in texts.split.train.tolist() if number_of[place]}
    test = {number_of[place][0] for place in texts.split.test.tolist() if number_of[place]}
    assert train
    assert test
    assert not train & test
    assert "un mot que deux partagent" not in texts.texts
    assert {LANGUAGES[place] for place in texts.languages.tolist()} == {"de", "en", "es", "fr"}
    assert texts.bytes.shape == (len(texts.texts), LENGTH)
