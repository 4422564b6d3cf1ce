"""The window by which a large output is judged. The rest is in tests/api/test_truth.py."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from types import SimpleNamespace

import numpy as np

from app.calibration.sizes import Sizes
from app.watch.truth import Window, window_of


def window(name: str, sizes: list[tuple[int, int]], *, applicability: str = "per_window"):
    """The window of a result of 500×300 pixels; k/2 scenes are of the k-th size (width, height)."""
    result = SimpleNamespace(
        id=name, width=500, height=300, guarantee=SimpleNamespace(applicability=applicability)
    )
    scenes = {size: Fraction(count, 2) for count, size in enumerate(sizes, start=1)}
    return window_of(SimpleNamespace(sizes=Sizes(scenes)), result)


class TestWindow:
    def test_it_follows_from_the_id(self):
        """Nobody chooses it: the same id has the same window."""
        assert window("res-a", [(48, 48)]) == window("res-a", [(48, 48)]) is not None

    def test_it_lies_anywhere(self):
        """Over many ids it covers the output evenly, and never leaves it."""
        found = [window(f"res-{k}", [(48, 40)]) for k in range(400)]
        places = np.array([(one.x, one.y) for one in found])
        room = np.array([452, 260])
        assert places.min() >= 0
        assert (places <= room).all()
        # Means within five standard errors of the middle.
        assert (abs(places.mean(axis=0) - room / 2) < 5 * room / np.sqrt(12 * 400)).all()

    def test_it_has_the_size_of_a_scene(self):
        """Sizes are drawn among those that fit, as often as scenes have them."""
        found = [window(f"res-{k}", [(48, 48), (500, 300), (600, 20)]) for k in range(400)]
        sizes = Counter((one.width, one.height) for one in found)
        assert sizes.keys() == {(48, 48), (500, 300)}
        assert abs(sizes[48, 48] - 400 / 3) < 5 * np.sqrt(400 * 2 / 9)
        assert window("res-a", [(500, 300)]) == Window(x=0, y=0, width=500, height=300)

    def test_only_where_the_promise_is_one_about_windows(self):
        """Within the calibrated sizes the whole output is judged."""
        assert window("res-a", [(48, 48)], applicability="exact") is None
