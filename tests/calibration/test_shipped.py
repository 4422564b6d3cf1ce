"""What a fresh installation serves from."""

from __future__ import annotations

import pytest

from app.calibration.active import shipped_calibration, shipped_names
from app.conformal.fitted import shipped as shipped_fit
from app.images.compression import LOSSLESS, PALETTE, Compression
from app.images.degrade import USUAL
from app.images.facts import UPLOAD, Facts
from app.sampling.pipeline import guard
from app.serving.subject import Subject
from app.upscalers.embedded import EmbeddedUpscaler
from app.upscalers.runtime import has_bf16
from app.upscalers.shipped import SHIPPED
from app.upscalers.witness import FaithfulWitness

COMPRESSIONS = [
    LOSSLESS, PALETTE, *(Compression("jpeg", q) for q in (95, 85, 75, 60, 40)),
    *(Compression("webp", q) for q in (90, 60, 20)), *(Compression("avif", q) for q in (80, 50)),
]  # fmt: skip


@pytest.fixture(scope="module", params=shipped_names())
def name(request):
    return request.param


@pytest.fixture(scope="module")
def shipped(name):
    return shipped_calibration(name)


def subject(shipped, compression: Compression, size=(512, 512), **looks: float) -> Subject:
    facts = Facts(compression, 2.0, 0.0, 3.0, 0.5, 3.0, **{"softness": 0.0, **looks})
    return Subject.of(shipped, None, facts, size=size)


def test_every_model_has_one():
    """Of each embedded model, in float32 at least."""
    assert {f"{model}-f32" for model in SHIPPED} <= set(shipped_names())


def test_it_fits_the_embedded_upscaler(name, shipped):
    """Its pipeline is the live one, errors count up to 0.5, and every scene is one photograph."""
    model, _, precision = name.rpartition("-")
    if precision == "f32" or has_bf16():
        witness = FaithfulWitness(precision)
        upscaler = EmbeddedUpscaler(model, model, precision=precision, witness=witness, threads=1)
        guard(shipped.pipeline, upscaler)
    assert shipped.pipeline.indecision.fit == shipped_fit(f"{model}-m1")
    assert shipped.bound == 0.5
    assert 200 < shipped.n <= 247
    assert shipped.classes.keys() == {*USUAL.variants(), "lossless/rough"}
    assert shipped.manifest.degradation == USUAL
    assert shipped.pipeline.input_rule == UPLOAD
    assert len(shipped.manifest.provenance.attributions) > 100


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_common_uploads_are_covered(shipped, compression):
    """Each class of sharp uploads has a curve on many scenes, which trusts something."""
    found = subject(shipped, compression)
    assert found.applicability == "exact"
    assert found.part.n >= (100 if compression == LOSSLESS else 80)
    assert found.part.mean_trusted_fraction(found.part.curve.threshold(0.1)) > 0.1


LOOKS = {
    "soft": {"softness": 1.0},
    "bilinear": {"softness": 1.0, "bilinear": 1.0},
    "smoothed": {"smoothed": 1.0},
}


@pytest.mark.parametrize(
    ("look", "quality"),
    [(look, quality) for look in LOOKS for quality in (None, 90)] + [("soft", 60)],
)
def test_other_looks_are_covered(shipped, look, quality):
    """Soft, bilinear and smoothed ones have curves of their own, without loss and as JPEG."""
    compression = LOSSLESS if quality is None else Compression("jpeg", quality)
    found = subject(shipped, compression, **LOOKS[look])
    assert found.is_covered
    assert found.input_class.startswith(f"{look}/")
    assert found.part.n >= 80
    assert found.part.mean_trusted_fraction(found.part.curve.threshold(0.1)) > 0.1


@pytest.mark.parametrize(
    "compression", [Compression("jpeg", 20), Compression("other"), Compression("webp", 5)]
)
def test_what_nobody_measured_is_said(shipped, compression):
    """Strong or unknown compression has no class, so nothing is promised."""
    found = subject(shipped, compression)
    assert not found.is_covered
    assert found.applicability == "unknown"


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 512), "exact"), ((1024, 1024), "per_window"), ((8, 8), "unknown")]
)
def test_sizes(shipped, size, expected):
    """Outputs of 512×512 exactly, larger ones window by window; smaller than all: not known."""
    assert subject(shipped, LOSSLESS, size).applicability == expected
