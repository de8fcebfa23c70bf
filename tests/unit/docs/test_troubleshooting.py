"""docs/troubleshooting.md against the code."""

import re
from pathlib import Path

from modelyard_operator.api.conditions import Reason

PAGE = Path(__file__).parents[3] / "docs" / "troubleshooting.md"
HEADINGS = re.findall(r"^### (.+)$", PAGE.read_text(), re.MULTILINE)


def test_every_reason_has_a_section_and_no_section_is_of_another() -> None:
    assert sorted(HEADINGS) == sorted(reason.value for reason in Reason)
