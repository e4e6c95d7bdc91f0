"""What is needed against what there is."""

from __future__ import annotations

import pytest

from tui.widgets.gauge import gauge_text


@pytest.mark.parametrize(
    ("need", "have", "text"),
    [
        (1612.4, 62_000.0, "1,612 / 62,000 per s (3 %)"),
        (12.0, 62_000.0, "12 / 62,000 per s (under 1 %)"),
        (0.0, 62_000.0, "0 / 62,000 per s (0 %)"),
        (124_000.0, 62_000.0, "124,000 / 62,000 per s (200 %)"),
        (None, 62_000.0, "? / 62,000 per s"),
        (1612.4, None, "1,612 per s · drive not measured: engram-local probe"),
        (None, None, "? per s · drive not measured: engram-local probe"),
    ],
)
def test_both_numbers_are_said_as_far_as_known(
    need: float | None, have: float | None, text: str
) -> None:
    assert gauge_text(need, have) == text
