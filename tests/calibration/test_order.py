"""Which calibration answers: of several active ones, and what a fresh installation has."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.factories import changed, made_of
from harness.fakes import FakeUpscaler
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibration import file
from trustscale_server.calibration import shipped as shipped_files
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.install import install_shipped
from trustscale_server.calibration.priority import EVERY, CalibrationPriority
from trustscale_server.calibration.shipped import shipped_calibration, shipped_names
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.images.compression import LOSSLESS
from trustscale_server.kinds.classes import UNKNOWN, Kind, class_of_way
from trustscale_server.kinds.features import UPLOAD, InputFeatures, classify
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.platform.errors import Conflict, NoCalibration
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.sigma.fits import SHIPPED as FITS
from trustscale_server.sampling.sigma.fits import shipped_fit
from trustscale_server.sampling.spec import raise_if_pipeline_differs
from trustscale_server.serving.applicable import ApplicableCalibration
from trustscale_server.upscalers.base import Capabilities
from trustscale_server.upscalers.embedded.runtime import has_bf16
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler

UPLOADS = [
    InputFeatures(LOSSLESS, 2.0, 0.0, 3.0, 0.0, Kind(name, -9.0))
    for name in ("lossless", "jpeg-85", "jpeg-65", "webp", "soft")
]
SIDES = (48, 64, 96)


def made(template, scenes, rule, unit="spot"):
    """A calibration of these scenes, X given, under a rule for classes."""
    updates = [
        {"width": side, "height": side, "input_class": rule and classify(rule, features)}
        for features, side, _ in scenes
    ]
    losses = [loss for _, _, loss in scenes]
    return made_of(template, updates, losses, input_rule=rule, fidelity=FidelitySettings(unit=unit))


scenes = st.lists(
    st.tuples(st.sampled_from(UPLOADS), st.sampled_from(SIDES), st.sampled_from([0.1, 0.4])),
    min_size=4,
    max_size=16,
)
units = st.sampled_from(["spot", "spot", "picture"])
orders = st.lists(st.tuples(scenes, st.sampled_from([UPLOAD, None]), units), min_size=1, max_size=4)


class Active:
    """A calibration and the scenes it was made of, looked through one by one."""

    def __init__(self, template, scenes, rule, unit):
        self.calibration = made(template, scenes, rule, unit)
        self.scenes, self.rule, self.is_of_spots = scenes, rule, unit == "spot"

    def like(self, features):
        """The scenes that answer an upload: those of its class, or all without classes."""
        everything = self.calibration.everything
        name = everything.class_of(features)
        return [scene for scene in self.scenes if everything.class_of(scene[0]) == name]

    def covers(self, features, side):
        """Whether it could answer, were it alone."""
        sides = {side for _, side, _ in self.like(features)}
        return self.calibration.everything.covers(features) and (self.is_of_spots or side in sides)

    def takes(self, scene, other):
        """Whether it may answer uploads like a scene of a later one, by which that must not."""
        features, side, _ = scene
        if self.is_of_spots != other.is_of_spots:
            # The spots of some sizes stand for those of the others.
            side = SIDES[0]
            if not self.is_of_spots:
                return False
        # Without classes a later one does not know which class its uploads have here.
        unknown = other.rule is None and self.rule is not None
        return any(self.covers(known, side) for known in (UPLOADS if unknown else [features]))


def is_for(several, place, upload, side):
    """Whether one covers an upload, by a curve of pairs that none before it takes."""
    own = several[place]
    return own.covers(upload, side) and not any(
        before.takes(scene, own) for scene in own.like(upload) for before in several[:place]
    )


@settings(max_examples=150, deadline=None)
@given(orders, st.sampled_from(UPLOADS), st.sampled_from([40, *SIDES, 400]))
def test_the_first_that_is_for_an_upload(calibration, parts, upload, side):
    """What none is for, the first one answers."""
    several = [Active(calibration, *part) for part in parts]
    order = CalibrationPriority([active.calibration for active in several])
    chosen = order.choose(upload, side, side)
    fitting = (place for place in range(len(parts)) if is_for(several, place, upload, side))
    assert order.calibrations.index(chosen) == next(fitting, 0)


def test_a_class_is_for_its_own_sizes(calibration):
    """A class of large pictures only is not taken by one that answers small ones."""
    lossless, jpeg = UPLOADS[:2]
    small = made(calibration, [(lossless, 48, 0.1)] * 4, None, "picture")
    both = made(calibration, [(lossless, 48, 0.1)] * 3 + [(jpeg, 64, 0.1)], UPLOAD, "picture")
    order = CalibrationPriority([small, both])
    assert order.choose(jpeg, 64, 64) is both
    assert order.choose(lossless, 64, 64) is small  # as the first of all: none is for it
    assert not both.applicable(None, "lossless").answers_size(64, 64)


@settings(max_examples=50, deadline=None)
@given(orders)
def test_what_each_answers(calibration, parts):
    """A class is told of a calibration if, and only if, uploads of it are answered from it."""
    order = CalibrationPriority([made(calibration, *part) for part in parts])
    answered = [set() for _ in parts]
    for upload in UPLOADS:
        for side in (*SIDES, 400):
            chosen = order.choose(upload, side, side)
            name = chosen.everything.class_of(upload)
            if chosen.everything.covers(upload) and chosen.applicable(None, name).answers_size(
                side, side
            ):
                answered[order.calibrations.index(chosen)].add(name or EVERY)
    assert [set(classes) for classes in order.answers()] == answered


async def test_what_cannot_be_read_stops_nobody(stores, calibration):
    """A damaged calibration behind the first is passed over; without the first there is none."""
    calibrations = Calibrations(stores.calibrations)
    await stores.calibrations.put(calibration.head.model_copy(update={"id": "damaged"}), b"text")
    await stores.calibrations.activate("damaged")
    with pytest.raises(NoCalibration, match=r"damaged of .* cannot be read.*not a calibration"):
        await calibrations.priority(calibration.manifest.upscaler)
    await calibrations.add(calibration, activate=False)
    await stores.calibrations.activate(calibration.id)
    priority = await calibrations.priority(calibration.manifest.upscaler)
    assert [one.id for one in priority.calibrations] == [calibration.id]
    assert await calibrations.priority(calibration.manifest.upscaler) is priority


async def test_a_switch_is_compared_with_what_answers_the_same_uploads(stores, calibration):
    """Also where a calibration of data is asked before it."""
    calibrations = Calibrations(stores.calibrations)
    data = changed(calibration, pipeline={**calibration.document["pipeline"], "stretch": "p0,p100"})
    for active in (calibration, data):
        await calibrations.add(active, activate=True)
    fewer = calibration.with_pairs(calibration.measured_pairs()[:3], created_by="test")
    changes = await calibrations.changes(fewer, force=True)
    assert changes.min_alpha.before == calibration.curve.min_alpha < changes.min_alpha.after
    with pytest.raises(Conflict, match="would serve worse"):
        await calibrations.changes(fewer, force=False)
    await calibrations.changes(calibration, force=False)  # nothing would change


@pytest.fixture(scope="module", params=shipped_names())
def name(request):
    return request.param


@pytest.fixture(scope="module")
def shipped(name):
    return shipped_calibration(name)


def test_every_model_has_one():
    """Of each embedded model, in float32 at least."""
    assert {f"{model}-f32" for model in SHIPPED_MODELS} <= set(shipped_names())


def test_it_fits_the_embedded_upscaler(name, shipped):
    """Its pipeline is the live one, spots lose up to .25, and each scene is one photograph."""
    model, _, precision = name.rpartition("-")
    if precision == "f32" or has_bf16():
        upscaler = EmbeddedUpscaler(model, model, precision=precision, threads=1)
        raise_if_pipeline_differs(shipped.pipeline, upscaler)
    fits = [shipped_fit(fit) for fit in FITS if fit.startswith(f"{model}-m1")]
    assert shipped.pipeline.indecision.all_fits == tuple(fits)
    assert (shipped.pipeline.fidelity.unit, shipped.everything.bound) == ("spot", 0.25)
    assert shipped.everything.pairs == shipped.n * len(TYPICAL_UPLOADS.variants())
    assert [*shipped.everything.classes] == CLASSES
    assert shipped.manifest.degradation == TYPICAL_UPLOADS
    assert shipped.guarantee == CalibrationConfig().guarantee  # with the usual Γ
    assert shipped.arrays.marked is not None
    assert shipped.pipeline.input_rule == UPLOAD
    # Two photographs share a title and an author.
    assert len(shipped.manifest.provenance.attributions) in {shipped.n - 1, shipped.n}


@pytest.mark.parametrize(
    ("fields", "version", "is_replaced"),
    [
        ({}, 0, True),
        ({"rule": "upload/1"}, file.VERSION, True),
        ({"default_alpha": 0.2}, file.VERSION, False),  # it can be served
        ({"name": "ours"}, 0, False),
        ({"parent": "cal-1"}, 0, False),  # derived from the shipped one, or extends it
        ({"fingerprint": "sha256:bf16"}, 0, False),  # that of processes of another precision
        ({}, file.VERSION + 1, False),  # of a newer release
        ({"is_damaged": True}, 0, False),
        (
            {"rule": "upload/1", "scale": 2},
            file.VERSION,
            False,
        ),  # nor can its successor be served
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
    few = [pair for pair in current.measured_pairs() if pair.info.input_class == "palette"]
    old = changed(current.with_pairs(few, created_by="local"), upscaler="mine", **parts)
    with monkeypatch.context() as older:
        older.setattr(file, "VERSION", version)
        blob = b"text" if "is_damaged" in fields else file.dump(old)
        await stores.calibrations.put(old.head, blob)
    await stores.calibrations.activate(old.id)
    calibrations = Calibrations(stores.calibrations)
    live = current.pipeline.fingerprint
    aligned = {"fingerprint": live, "capabilities": Capabilities()}
    upscaler = FakeUpscaler("mine", scale=fields.get("scale", 4), **aligned)
    for _ in range(2):
        await install_shipped(calibrations, [upscaler])
        one, *data = await calibrations.active_ids("mine")
        assert one == (current.for_upscaler("mine").id if is_replaced else old.id)
        assert len(data) == is_replaced


CLASSES = sorted({class_of_way(way) for way in TYPICAL_UPLOADS.variants()})


@pytest.mark.parametrize("kind", CLASSES)
def test_usual_uploads_are_covered(shipped, kind):
    """Each class of usual uploads has a curve that trusts something at the default level."""
    features = replace(UPLOADS[0], kind=Kind(kind, -9.0))
    found = ApplicableCalibration.from_calibration(shipped, None, features, shape=(512, 512))
    assert found.is_covered
    assert found.input_class == kind
    assert found.subset.pairs < shipped.everything.pairs
    assert found.subset.mean_trusted_fraction(found.subset.curve.threshold(0.05)) > 0.2


def test_what_nobody_measured_is_not(shipped):
    features = replace(UPLOADS[0], kind=Kind(UNKNOWN, -9.0))
    assert not ApplicableCalibration.from_calibration(
        shipped, None, features, shape=(512, 512)
    ).is_covered


def test_they_are_small():
    """So that the packages stay so: 16 MB together."""
    folder = shipped_files._SHIPPED
    files = [*folder.glob("*.calibration"), *folder.glob("data/*.calibration")]
    assert sum(entry.stat().st_size for entry in files) <= 16_000_000


@pytest.fixture(params=[name for name in shipped_names() if "-safe-" not in name])
def for_text(request):
    return shipped_calibration(f"{request.param}-text")


def test_text_fits_the_embedded_upscaler(for_text):
    """Its pipeline is the live one, and its limits come first."""
    model, precision = for_text.manifest.name.removesuffix("-text").rsplit("-", 1)
    if precision == "f32" or has_bf16():
        upscaler = EmbeddedUpscaler(model, model, precision=precision, threads=1)
        raise_if_pipeline_differs(for_text.pipeline, upscaler)
    assert for_text.pipeline == shipped_calibration(f"{model}-{precision}").pipeline.model_copy(
        update={
            "fidelity": FidelitySettings(metric="text", reader=for_text.pipeline.fidelity.reader),
            "indecision": IndecisionSettings("reading"),
            "input_rule": None,
        }
    )
    assert for_text.everything.made_of.startswith("Text rendered over")
    assert "no real lettering" in for_text.everything.made_of
    assert for_text.everything.pairs == for_text.n == len(for_text.manifest.provenance.attributions)
    for alpha in (0.05, 0.1):
        trusted = for_text.everything.mean_trusted_fraction(for_text.curve.threshold(alpha))
        assert 0.2 < trusted < 0.9


async def test_text_is_stored_when_it_is_asked_for(stores):
    """And never active: colours are answered as before."""
    for_text = shipped_calibration("span-x4-f32-text")
    upscaler = FakeUpscaler("mine", scale=4, fingerprint=for_text.pipeline.fingerprint)
    calibrations = Calibrations(stores.calibrations)
    await install_shipped(calibrations, [upscaler])
    before = await calibrations.active_ids("mine")
    for _ in range(2):
        found = await calibrations.for_text(upscaler)
        assert [one.id for one in found.calibrations] == [for_text.for_upscaler("mine").id]
    assert await calibrations.active_ids("mine") == before
    assert not any([(await calibrations.get(one)).is_for_text for one in before])


async def test_text_is_answered_in_the_order_of_activation(stores):
    """Else by the newest that is stored."""
    newer = shipped_calibration("span-x4-f32-text").for_upscaler("mine")
    older = changed(newer, created_at="2026-01-01T00:00:00Z")
    calibrations = Calibrations(stores.calibrations)
    upscaler = FakeUpscaler("mine", scale=4)
    for stored in (newer, older):
        await calibrations.add(stored, activate=False)
    assert (await calibrations.for_text(upscaler)).first is newer
    for active in (newer, older):
        await stores.calibrations.activate(active.id, without=())
    assert [*(await calibrations.for_text(upscaler)).calibrations] == [older, newer]


async def test_data_come_with_the_pictures(stores):
    """A fresh installation answers grey data of one stretch, after pictures, which come first."""
    pictures = shipped_calibration("span-x4-f32")
    upscaler = FakeUpscaler("mine", scale=4, fingerprint=pictures.pipeline.fingerprint)
    calibrations = Calibrations(stores.calibrations)
    for _ in range(2):
        await install_shipped(calibrations, [upscaler])
        first, second = await calibrations.active_ids("mine")
    assert first == pictures.for_upscaler("mine").id
    data = await calibrations.get(second)
    assert (data.pipeline.stretch, data.pipeline.fidelity.metric) == ("p0,p100", "intensity")
    assert "fluorescence micrographs of nuclei" in data.everything.made_of
    assert 0.8 < data.everything.mean_trusted_fraction(data.curve.threshold(0.03)) < 1
    # A larger one would promise less of the same mask, and each answer would say so.
    assert data.manifest.default_alpha == 0.03 < data.everything.max_alpha


@pytest.mark.parametrize(
    ("fields", "alpha"),
    [
        ({"stretch": "p0,p100"}, 0.03),
        ({"stretch": "p0,p100", "fidelity": {"metric": "neighborhood"}}, 0.05),
        ({"stretch": "p0,p100", "default_alpha": 0.1}, 0.1),
        ({}, 0.05),
    ],
)
def test_the_default_level(fields, alpha):
    """Of data it is that of shares of the stretch, which are smaller than colour differences."""
    assert CalibrationConfig(**fields).default_alpha == alpha
