"""What a fresh installation serves from."""

from __future__ import annotations

import pytest

from app.calibration.active import shipped_calibrations
from app.images.compression import LOSSLESS, Compression
from app.images.facts import DETAIL, Facts
from app.sampling.pipeline import guard
from app.serving.subject import Subject
from app.upscalers.embedded import EmbeddedUpscaler


@pytest.fixture(scope="module")
def shipped():
    (calibration,) = shipped_calibrations()
    return calibration


def facts(compression: Compression, detail: float = 2.0) -> Facts:
    return Facts(compression, detail, 0.0, 3.0, 0.5, 3.0, 0.0)


def test_it_fits_the_embedded_upscaler(shipped):
    """Its pipeline is the live one, errors count up to 0.5, and every scene is one photograph."""
    guard(shipped.pipeline, EmbeddedUpscaler("span-x4"))
    assert shipped.bound == 0.5
    assert (shipped.n, shipped.pairs) == (247, 1729)
    assert shipped.pipeline.input_rule == DETAIL
    assert len(shipped.manifest.provenance.attributions) > 100


@pytest.mark.parametrize("quality", [None, 95, 85, 75, 60])
@pytest.mark.parametrize("detail", [1.0, 2.0, 3.0])
def test_common_uploads_are_covered(shipped, quality, detail):
    """Files without loss and JPEG from 50 up have classes of dozens of scenes, and masks."""
    compression = LOSSLESS if quality is None else Compression("jpeg", quality)
    subject = Subject.of(shipped, None, facts(compression, detail), size=(512, 512))
    assert subject.is_covered
    assert subject.part.n >= 60
    assert subject.part.mean_trusted_fraction(subject.part.curve.threshold(0.1)) > 0.1


@pytest.mark.parametrize("compression", [Compression("jpeg", 30), Compression("other")])
def test_what_nobody_measured_is_said(shipped, compression):
    """Strong or unknown compression has no class, so nothing is promised."""
    subject = Subject.of(shipped, None, facts(compression), size=(512, 512))
    assert not subject.is_covered
    assert subject.applicability == "unknown"


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 512), "exact"), ((1024, 1024), "per_window"), ((8, 8), "unknown")]
)
def test_sizes(shipped, size, expected):
    """Outputs of 512×512 exactly, larger ones window by window; smaller than all: not known."""
    assert Subject.of(shipped, None, facts(LOSSLESS), size=size).applicability == expected
