"""Mistakes in settings and forms are said in the words of whoever made them."""

from __future__ import annotations

import pytest

from app.errors import ConfigError
from app.mistakes import did_you_mean
from app.settings import Settings, load_settings

COG = {"name": "mine", "kind": "cog", "url": "http://127.0.0.1:5000", "scale": 4}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"max_in_fligth": 3}, "max_in_fligth: there is no such name; did you mean max_in_flight?"),
        ({"upscalers": [{**COG, "kind": "cogg"}]}, "'mine': there is no kind 'cogg'; did you mean"),
        ({"upscalers": [{**COG, "kind": "x"}]}, "there are embedded, worker, oip"),
        ({"upscalers": [{**COG, "scale": "four"}]}, "'mine': scale: this must be a valid integer."),
        ({"upscalers": [{**COG, "seed_feld": "s"}]}, "did you mean seed_field?"),
        ({"upscalers": [{"name": "mine", "kind": "cog", "scale": 4}]}, "url: this is missing."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings(overrides, words):
    """The upscaler is named, what was meant is offered, and no parser's jargon is left."""
    with pytest.raises(ConfigError) as caught:
        load_settings(**overrides)
    assert words in caught.value.detail
    assert not caught.value.detail.endswith("?.")


def test_nothing_like_it():
    """A name that resembles none is not corrected."""
    assert did_you_mean("colour_of_the_sky", Settings.model_fields) == ""
