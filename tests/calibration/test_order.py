"""Which calibration answers: of several active ones, and what a fresh installation has."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import changed, made_of
from tests.fakes import FakeUpscaler
from trustscale_server.calibration import file
from trustscale_server.calibration.active import (
    EVERY,
    CalibrationPriority,
    Calibrations,
    shipped_calibration,
    shipped_names,
)
from trustscale_server.errors import NoCalibration
from trustscale_server.images.compression import LOSSLESS, PALETTE, Compression, class_of
from trustscale_server.images.degrade import USUAL, Degradation
from trustscale_server.images.facts import UPLOAD, InputFeatures, classify
from trustscale_server.sampling.pipeline import guard
from trustscale_server.serving.promise import ApplicableCalibration
from trustscale_server.sigma.estimators import SHIPPED as FITS
from trustscale_server.sigma.estimators import shipped as shipped_fit
from trustscale_server.upscalers.embedded import EmbeddedUpscaler
from trustscale_server.upscalers.runtime import SHIPPED, has_bf16

UPLOADS = [
    InputFeatures(compression, detail, 0.0, 3.0, 0.5, 3.0, softness)
    for compression in (
        LOSSLESS,
        *(Compression("jpeg", quality) for quality in (85, 75, 40)),
        Compression("webp", 60),
    )
    for detail in (1.0, 3.0)
    for softness in (-9.0, 9.0)
]
SIDES = (48, 64, 96)


def made(template, scenes, rule):
    """A calibration of these scenes, X given, under a rule for classes."""
    updates = [
        {"width": side, "height": side, "input_class": rule and classify(rule, facts)}
        for facts, side, _ in scenes
    ]
    return made_of(template, updates, [loss for _, _, loss in scenes], input_rule=rule)


scenes = st.lists(
    st.tuples(st.sampled_from(UPLOADS), st.sampled_from(SIDES), st.sampled_from([0.1, 0.4])),
    min_size=4,
    max_size=16,
)
several = st.lists(st.tuples(scenes, st.sampled_from([UPLOAD, None])), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(several, st.sampled_from(UPLOADS), st.sampled_from([40, *SIDES, 400]))
def test_a_curve_is_asked_for_its_own_pairs(calibration, parts, upload, side):
    """A later calibration answers what it covers, by a curve of pairs that none before covers."""
    active = [made(calibration, some, rule) for some, rule in parts]
    order = CalibrationPriority(active)
    chosen = order.choose(upload, side, side)
    assert order.choose(upload, side, side) is chosen
    assert CalibrationPriority(active).choose(upload, side, side) is chosen
    place = active.index(chosen)
    if place == 0:
        return
    name = chosen.partitions.class_of(upload)
    part = chosen.partitions.of_class(name)
    assert chosen.partitions.covers(upload)
    assert part.applicability(side, side) != "unknown"
    used = part.partitions.of_size(side, side).sizes.all
    for facts, its_side, _ in parts[place][0]:
        if (its_side, its_side) in used and name in {None, chosen.partitions.class_of(facts)}:
            for before in active[:place]:
                own = before.partitions.of_class(before.partitions.class_of(facts))
                covers = before.partitions.covers(facts)
                assert not covers or own.applicability(its_side, its_side) == "unknown"


@settings(max_examples=50, deadline=None)
@given(several)
def test_what_each_answers(calibration, parts):
    """A class is told of a calibration if, and only if, uploads of it are answered from it."""
    order = CalibrationPriority([made(calibration, some, rule) for some, rule in parts])
    found = [set() for _ in parts]
    for upload in UPLOADS:
        for side in (*SIDES, 400):
            chosen = order.choose(upload, side, side)
            name = chosen.partitions.class_of(upload)
            if (
                chosen.partitions.covers(upload)
                and chosen.partitions.of_class(name).applicability(side, side) != "unknown"
            ):
                found[order.calibrations.index(chosen)].add(name or EVERY)
    assert [set(classes) for classes in order.answers()] == found


def test_the_first_that_covers(calibration):
    """A new one for PNG stands before that for JPEG; what neither covers is the first one's."""
    png, jpeg, webp = UPLOADS[0], UPLOADS[4], UPLOADS[-1]
    old = made(calibration, [(png, 48, 0.1), (jpeg, 48, 0.1)] * 4, UPLOAD)
    new = made(calibration, [(png, 48, 0.1)] * 4, UPLOAD)
    order = CalibrationPriority([new, old])
    chosen = [order.choose(upload, 48, 48) for upload in (png, jpeg, webp)]
    assert chosen == [new, old, new]
    assert order.answers() == [["lossless"], [class_of(jpeg.compression)]]
    assert CalibrationPriority([new]).choose(jpeg, 48, 48) is new


@pytest.mark.parametrize(("count", "asked"), [(40, 1), (1, 0)])
def test_a_mixed_calibration(calibration, count, asked):
    """The first says nothing about larger outputs: another one answers by its large scenes."""
    png = UPLOADS[0]
    first = made(calibration, [(png, 48, 0.1)] * 4, UPLOAD)
    far = {**first.document["pipeline"], "indecision": {"blur": 20}}  # σ looks beyond a window
    first = changed(first, pipeline=far)
    mixed = made(calibration, [(png, 48, 0.1)] * 40 + [(png, 96, 0.4)] * count, UPLOAD)
    order = CalibrationPriority([first, mixed])
    assert order.choose(png, 48, 48) is first
    assert order.choose(png, 96, 96) is order.calibrations[asked]
    assert order.answers() == [["lossless"], ["lossless"][:asked]]


@pytest.mark.parametrize("upload", UPLOADS[::3])
def test_without_a_rule(calibration, upload):
    """Given X without classes cover every upload; X that were made cover how they were made."""
    given_x = made(calibration, [(upload, 48, 0.1)] * 4, None)
    jpeg = {"degradation": Degradation(jpeg=75).model_dump(mode="json")}
    made_x = changed(given_x, **jpeg)
    assert CalibrationPriority([given_x]).answers() == [[EVERY]]
    assert CalibrationPriority([given_x, made_x]).choose(upload, 48, 48) is given_x
    assert CalibrationPriority([given_x, made_x]).answers()[1] == []
    assert CalibrationPriority([made_x, given_x]).answers() == [["jpeg-68"], []]


async def test_what_cannot_be_read_stops_nobody(stores, calibration):
    """A damaged calibration behind the first is passed over; without the first there is none."""
    calibrations = Calibrations(stores.calibrations)
    await stores.calibrations.put(calibration.head.model_copy(update={"id": "damaged"}), b"text")
    await stores.calibrations.activate("damaged")
    with pytest.raises(NoCalibration, match=r"damaged of .* cannot be read.*not a calibration"):
        await calibrations.order(calibration.manifest.upscaler)
    await calibrations.add(calibration, activate=False)
    await stores.calibrations.activate(calibration.id)
    order = await calibrations.order(calibration.manifest.upscaler)
    assert [one.id for one in order.calibrations] == [calibration.id]
    assert await calibrations.order(calibration.manifest.upscaler) is order


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


def subject(shipped, compression, size=(512, 512), **looks):
    facts = InputFeatures(compression, 2.0, 0.0, 3.0, 0.5, 3.0, **{"softness": 0.0, **looks})
    return ApplicableCalibration.of(shipped, None, facts, size=size)


def test_every_model_has_one():
    """Of each embedded model, in float32 at least."""
    assert {f"{model}-f32" for model in SHIPPED} <= set(shipped_names())


def test_it_fits_the_embedded_upscaler(name, shipped):
    """Its pipeline is the live one, errors count up to 0.5, and every scene is one photograph."""
    model, _, precision = name.rpartition("-")
    if precision == "f32" or has_bf16():
        upscaler = EmbeddedUpscaler(model, model, precision=precision, threads=1)
        guard(shipped.pipeline, upscaler)
    fits = [shipped_fit(fit) for fit in FITS if fit.startswith(f"{model}-m1")]
    assert shipped.pipeline.indecision.all_fits == tuple(fits)
    assert shipped.bound == 0.5
    assert 200 < shipped.n <= 247
    # What has detail in every pixel nobody makes: it is a part of what is made for `lossless`.
    assert shipped.partitions.classes.keys() == {*USUAL.variants(), "lossless/fine"}
    assert shipped.manifest.degradation == USUAL
    assert shipped.pipeline.input_rule == UPLOAD
    assert len(shipped.manifest.provenance.attributions) > 100


@pytest.mark.parametrize(
    ("fields", "version", "is_replaced"),
    [
        ({}, 0, True),
        ({"rule": "upload/1"}, file.VERSION, True),
        ({"trust_layer": 0}, file.VERSION, True),
        ({"default_alpha": 0.2}, file.VERSION, False),  # it can be served
        ({"name": "ours"}, 0, False),
        ({"parent": "cal-1"}, 0, False),  # derived from the shipped one, or extends it
        ({"created_by": "admin"}, 0, False),
        ({"fingerprint": "sha256:bf16"}, 0, False),  # that of processes of another precision
        ({}, file.VERSION + 1, False),  # of a newer release
        ({"is_damaged": True}, 0, False),
        ({"rule": "upload/1", "scale": 2}, file.VERSION, False),  # nor can its successor be served
    ],
)
async def test_older_shipped_ones_are_replaced(stores, monkeypatch, fields, version, is_replaced):
    """Those that cannot be served any more, and only those that were shipped for this upscaler."""
    current = shipped_calibration()
    pipeline, origin = ({**current.document[key]} for key in ("pipeline", "provenance"))
    pipeline["input_rule"] = fields.get("rule", UPLOAD)
    pipeline |= {key: fields[key] for key in pipeline.keys() & fields.keys() - {"scale"}}
    origin |= {key: fields[key] for key in origin.keys() & fields.keys()}
    own = {key: fields[key] for key in ("name", "default_alpha") if key in fields}
    parts = {"pipeline": pipeline, "provenance": origin, **own}
    old = changed(current.partitions.of_class("palette"), upscaler="mine", **parts)
    with monkeypatch.context() as older:
        older.setattr(file, "VERSION", version)
        blob = b"text" if "is_damaged" in fields else file.dump(old)
        await stores.calibrations.put(old.head, blob)
    await stores.calibrations.activate(old.id)
    calibrations = Calibrations(stores.calibrations)
    live = current.pipeline.fingerprint
    upscaler = FakeUpscaler("mine", scale=fields.get("scale", 4), fingerprint=live)
    for _ in range(2):
        await calibrations.install_shipped([upscaler])
        (active,) = await calibrations.active_ids("mine")
        assert active == (current.for_upscaler("mine").id if is_replaced else old.id)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_common_uploads_are_covered(shipped, compression):
    """Each class of sharp uploads has a curve on many scenes, which trusts something."""
    found = subject(shipped, compression)
    assert found.applicability == "exact"
    assert found.part.n >= (100 if compression == LOSSLESS else 80)
    assert found.part.report.mean_trusted_fraction(found.part.curve.threshold(0.1)) > 0.1


LOOKS = {
    "soft": {"softness": 1.0},
    "bilinear": {"softness": 1.0, "bilinear": 1.0},
    "smoothed": {"smoothed": 1.0},
    "denoised": {"smoothed": 1.0, "denoised": 1.0},
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
    assert found.part.n >= 60
    assert found.part.report.mean_trusted_fraction(found.part.curve.threshold(0.1)) > 0.1


@pytest.mark.parametrize(
    "compression", [Compression("jpeg", 20), Compression("other"), Compression("webp", 15)]
)
def test_what_nobody_measured_is_said(shipped, compression):
    found = subject(shipped, compression)
    assert not found.is_covered
    assert found.applicability == "unknown"


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 512), "exact"), ((1024, 1024), "per_window"), ((8, 8), "unknown")]
)
def test_sizes(shipped, size, expected):
    """Outputs of 512×512 exactly, larger ones window by window; smaller than all: not known."""
    assert subject(shipped, LOSSLESS, size).applicability == expected
