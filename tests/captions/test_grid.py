"""Captions in params.yaml are checked before any work."""

import pytest
from pydantic import ValidationError

from ddpm.captions.grid import Grid


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"captions": ["a blue dress"]}, "caption 'a blue dress' has the unknown word 'blue'"),
        ({"captions": [""]}, "it must have at least one word"),
        ({"captions": ["dark"]}, "caption 'dark' names no item"),
        ({"captions": []}, "at least 1 item"),
        ({"scales": [0.5]}, "greater than or equal to 1"),
        ({"scales": [1000.0]}, "less than or equal to 100"),
        ({"n": 0}, "greater than or equal to 1"),
    ],
)
def test_grid_rejects_invalid_values(changes, message):
    fine = {"captions": ["a dark dress"], "scales": [1.0, 3.0], "n": 2}
    assert Grid(**fine).captions == ["a dark dress"]
    with pytest.raises(ValidationError, match=message):
        Grid(**fine | changes)
