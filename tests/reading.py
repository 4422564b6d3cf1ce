"""A text reader that reads the same three words in every picture."""

import numpy as np
from PIL import Image

from harness.factories import calibration_of, encoded, photo
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.serving.finders import LineFinder
from trustscale_server.things import reading
from trustscale_server.things.reading import Line, Word

TEXTS = {"Exit": 0.99, "42": 0.9, "Zg": 0.3}
"""The words, and how sure the reader is of each."""


def _box(row):
    top = 4 + 12 * row
    return np.array([[6, top], [40, top], [40, top + 8], [6, top + 8]], np.float64)


LINES = [
    Line(_box(row), (Word(text, confidence, _box(row)),))
    for row, (text, confidence) in enumerate(TEXTS.items())
]


def pretend(monkeypatch):
    """All pictures show these words, but of the doubtful one, which every other shows otherwise."""
    monkeypatch.setattr(reading, "read_lines", lambda picture: LINES)
    found = [line.corners.astype(np.float32) for line in LINES]
    monkeypatch.setattr(LineFinder, "__call__", lambda self, pictures: [found for _ in pictures])
    others = [line.words[0].confidence < 0.5 for line in LINES]
    monkeypatch.setattr(reading, "read_otherwise", lambda lines, picture: others)


def upload():
    """X of one of the pictures of `calibration_for_text`, a PNG file."""
    truth = Image.fromarray(photo(7, 48, 48))
    return encoded(truth.resize((24, 24), Image.Resampling.BICUBIC))


async def calibration_for_text(upscaler, **fields):
    """Of 30 pictures with two right words and a wrong one each."""
    fidelity = FidelitySettings(metric="text")
    return await calibration_of(
        upscaler, fidelity=fidelity, indecision=IndecisionSettings("reading"), **fields
    )
