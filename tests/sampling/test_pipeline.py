"""Sources become predictions and scores, and how long it takes."""

import asyncio
import os
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from harness.factories import photo
from harness.fakes import FakeUpscaler, Sink
from tests.reading import LINES, pretend
from tests.sampling.test_draw import Fake
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.images.compression import LOSSLESS
from trustscale_server.kinds.classes import Kind
from trustscale_server.kinds.features import UPLOAD, classify, look_at
from trustscale_server.platform.errors import (
    CalibrationMismatch,
    DegenerateSamples,
    UpscalerUnavailable,
)
from trustscale_server.sampling.measure import measure
from trustscale_server.sampling.sigma.estimators import IndecisionSettings
from trustscale_server.sampling.sigma.fits import SHIPPED as FITS
from trustscale_server.sampling.sigma.fits import Fit, shipped_fit
from trustscale_server.sampling.spec import (
    MeasurementSpec,
    identify,
    pipeline_differences,
    raise_if_pipeline_differs,
)
from trustscale_server.sampling.throughput import Throughput
from trustscale_server.things import reading
from trustscale_server.upscalers.base import Capabilities, Source, settings_of
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS as MODELS
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler
from trustscale_server.upscalers.failures import Filtered
from trustscale_server.upscalers.symmetries import sample_seeds

PIPELINE = MeasurementSpec(fingerprint="fake:1", scale=2, samples=6)


class Late(FakeUpscaler):
    async def generate(self, source, seeds, permit=None):
        for _ in range(50 - 8 * len(self.calls)):  # turns of the loop
            await asyncio.sleep(0)
        return await super().generate(source, seeds, permit)


def source(seed=1):
    return Source(photo(seed, 20, 24))


def under(*, general, **settings):
    """The pipeline of a fitted σ for uploads."""
    indecision = IndecisionSettings("fitted", fit=general, **settings)
    return PIPELINE.model_copy(update={"indecision": indecision, "input_rule": UPLOAD})


def equal(one, other):
    return (
        np.array_equal(one.prediction, other.prediction)
        and np.array_equal(one.sigma, other.sigma)
        and one.mean_log_sigma == other.mean_log_sigma
    )


class TestMeasure:
    @pytest.mark.parametrize("rule", ["first", "mean"])
    @pytest.mark.parametrize(
        "capabilities",
        [Capabilities(concurrency=1), Capabilities(concurrency=6),
         Capabilities(concurrency=2, samples_per_call=4)],
    )  # fmt: skip
    async def test_the_order_of_arrival_does_not_matter(self, rule, capabilities):
        pipeline = PIPELINE.model_copy(update={"prediction": rule})
        in_turn = await measure(FakeUpscaler(), source(), pipeline, 5)
        out_of_turn = await measure(Late(capabilities=capabilities), source(), pipeline, 5)
        assert equal(in_turn, out_of_turn)

    async def test_the_prediction(self):
        """Rule `first`: the sample of the first seed; `mean`: their mean, halves rounded up."""
        upscaler = FakeUpscaler(strength=20)
        samples = [upscaler.sample(source().rgb, s).astype(int) for s in sample_seeds(5, 6)]
        mean = np.floor(np.sum(samples, axis=0) / 6 + 0.5)
        for rule, expected in (("first", samples[0]), ("mean", mean)):
            pipeline = PIPELINE.model_copy(update={"prediction": rule})
            measured = await measure(upscaler, source(), pipeline, 5)
            np.testing.assert_array_equal(measured.prediction, expected)

    async def test_the_mean_whose_words_are_read(self, monkeypatch):
        """The reader sees the picture that answers, and leaves it as it is."""
        pretend(monkeypatch)
        mean = PIPELINE.model_copy(update={"prediction": "mean"})
        of_words = mean.model_copy(
            update={
                "fidelity": FidelitySettings(metric="text"),
                "indecision": IndecisionSettings("reading"),
            }
        )
        read = []
        monkeypatch.setattr(reading, "read_lines", lambda made: read.append(made.copy()) or LINES)
        asked = FakeUpscaler(), Source(photo(1, 24, 24))
        expected, measured = [await measure(*asked, spec, 5) for spec in (mean, of_words)]
        np.testing.assert_array_equal(read[0], expected.prediction)
        np.testing.assert_array_equal(measured.prediction, expected.prediction)

    @pytest.mark.parametrize("estimator", ["smoothed_variance", "fitted"])
    async def test_strips(self, estimator):
        """σ by strips, which may be changed, has the bits of σ; its mean log does not depend."""
        fit = Fit(weights=(("detail@1", 0.4), ("residual@2", 0.3)))
        settings = IndecisionSettings(estimator, fit=fit if estimator == "fitted" else None)
        pipeline = PIPELINE.model_copy(update={"indecision": settings})
        asked = Source(photo(1, 77, 131)), pipeline, 5
        strips = {}

        def look(top, rows):
            strips[top] = rows.copy()
            rows[:] = np.inf

        whole = await measure(FakeUpscaler(), *asked)
        seen = await measure(FakeUpscaler(), *asked, sink=Sink(on_sigma=look))
        found = np.concatenate([strips[top] for top in sorted(strips)])
        np.testing.assert_array_equal(found, whole.sigma)
        logs = np.log(np.maximum(whole.sigma, np.float32(1e-12)))
        expected = float(np.add.reduce(logs.reshape(-1), dtype=np.float64) / logs.size)
        assert whole.mean_log_sigma == seen.mean_log_sigma == expected
        assert not seen.sigma.size

    @pytest.mark.parametrize(("softness", "is_own"), [(-3.0, True), (-0.5, False)])
    def test_what_may_be_soft_is_not_fitted_as_sharp(self, softness, is_own):
        """Where a soft kind is nearly as likely, that of all classes is used."""
        kind = Kind("lossless", softness)
        features = replace(look_at(photo(1, 20, 24), LOSSLESS), kind=kind)
        general = Fit(weights=(("detail@1", 0.4),))
        own = Fit(weights=(("slope@1", 0.4),), classes=(classify(UPLOAD, features),))
        found = under(general=general, fits=(own,)).sigma_of(features).fit
        assert found == (own if is_own else general)


def withholding(count, **capabilities):
    """A filter withholds the samples of the first seeds, for good."""
    withheld = set(sample_seeds(5, 6)[:count])

    def fail(seeds):
        return Filtered("Withheld by a filter.") if withheld & set(seeds) else None

    return Fake(fail=fail, concurrency=4, **capabilities)


class TestSpares:
    @pytest.mark.parametrize("withheld", [0, 1, 4])
    async def test_a_withheld_sample_is_replaced(self, withheld):
        """By those that a larger M would draw next, up to four, which cost nothing before."""
        upscaler = withholding(withheld)
        measured = await measure(upscaler, source(), PIPELINE, 5)
        assert sorted(measured.seeds) == sorted(sample_seeds(5, 6 + withheld)[withheld:])
        assert {*chain(*upscaler.calls)} == {*sample_seeds(5, 6 + withheld)}

    @pytest.mark.parametrize(("withheld", "most"), [(5, None), (1, 6), (2, 7)])
    async def test_no_more_than_there_are(self, withheld, most):
        """Then the failure is told; of an upscaler that has fewer samples no others are asked."""
        upscaler = withholding(withheld, max_samples=most)
        with pytest.raises(Filtered, match=r"\d of 6 samples came"):
            await measure(upscaler, source(), PIPELINE, 5)
        assert {*chain(*upscaler.calls)} <= {*sample_seeds(5, most or 10)}


class TestReplaced:
    @pytest.mark.parametrize("after", [0, 3, 5])
    async def test_replaced_while_samples_come(self, after):
        """Samples of another model are never reduced under the calibrated pipeline."""

        def redeploy(seeds):
            if len(upscaler.calls) > after:
                upscaler.fingerprint = "fake:2"

        upscaler = Fake(fail=redeploy, concurrency=4)
        with pytest.raises(CalibrationMismatch) as caught:
            await measure(upscaler, source(), PIPELINE, 5)
        assert [item["field"] for item in caught.value.members["differences"]] == ["fingerprint"]

    async def test_replaced_before(self):
        """Whoever waited for a slot is refused before anything is generated."""
        upscaler = FakeUpscaler(fingerprint="fake:2")
        with pytest.raises(CalibrationMismatch):
            await measure(upscaler, source(), PIPELINE, 5)
        assert upscaler.calls == []


async def test_of_an_image_that_is_not_flat():
    """Identical samples are an error; of one colour σ = 0 may be the truth."""
    with pytest.raises(DegenerateSamples, match="identical"):
        await measure(FakeUpscaler(strength=0), source(), PIPELINE, 5)
    flat = Source(np.full((20, 24, 3), 90, np.uint8))
    measured = await measure(FakeUpscaler(strength=0), flat, PIPELINE, 5)
    assert not measured.sigma.any()
    assert np.isfinite(measured.mean_log_sigma)


class TestGuard:
    @pytest.mark.parametrize(
        ("field", "upscaler"),
        [("fingerprint", FakeUpscaler(fingerprint="fake:2")), ("scale", FakeUpscaler(scale=3)),
         ("samples", FakeUpscaler(capabilities=Capabilities(max_samples=5)))],
    )  # fmt: skip
    def test_of_the_upscaler(self, field, upscaler):
        with pytest.raises(CalibrationMismatch, match=field) as caught:
            raise_if_pipeline_differs(PIPELINE, upscaler)
        (item,) = caught.value.members["differences"]
        assert item["field"] == field
        assert item["calibrated"] != item["live"]

    def test_of_aligned_samples(self):
        """A calibration of samples with the colours of X serves no upscaler without them."""
        aligned = PIPELINE.model_copy(update={"align": True})
        with pytest.raises(CalibrationMismatch, match="align"):
            raise_if_pipeline_differs(aligned, FakeUpscaler())
        raise_if_pipeline_differs(aligned, FakeUpscaler(capabilities=Capabilities()))

    def test_of_the_trust_layer(self):
        older = PIPELINE.model_copy(update={"trust_layer": 0})
        with pytest.raises(CalibrationMismatch, match="trust_layer"):
            raise_if_pipeline_differs(older, FakeUpscaler())

    def test_of_a_setting(self):
        """A fingerprint that differs names the settings that do, also those inside tables."""
        then, now = FakeUpscaler(), FakeUpscaler(fingerprint="x")
        then.settings = {"input": {"sleep": 1, "steps": 4}, "url": "http://a", "gone": 1}
        now.settings = {"input": {"sleep": 2, "steps": 4}, "url": "http://a"}
        [found] = pipeline_differences(PIPELINE, now, settings_of(then))
        assert found["settings"] == ["gone", "input.sleep"]
        with pytest.raises(CalibrationMismatch, match=r"input\.sleep"):
            raise_if_pipeline_differs(PIPELINE, now, settings_of(then))
        assert "http" not in str(settings_of(then).values())


class Away(FakeUpscaler):
    """Not reached yet: says what it is only after a check."""

    checks = 0

    @property
    def fingerprint(self):
        if not self.checks:
            raise UpscalerUnavailable("'fake' has not been reached yet.")
        return "fake:1"

    @fingerprint.setter
    def fingerprint(self, value): ...

    async def probe(self):
        await super().probe()
        self.checks += 1


async def test_one_that_was_away_is_asked_once():
    upscaler = Away()
    for _ in range(2):
        await identify(upscaler)
        raise_if_pipeline_differs(PIPELINE, upscaler)
    assert upscaler.checks == 1
    upscaler = Away()
    upscaler.failure = UpscalerUnavailable("It sleeps.")
    with pytest.raises(UpscalerUnavailable, match="It sleeps"):
        await identify(upscaler)


@pytest.mark.parametrize("precision", ["f32", "auto"])
@pytest.mark.parametrize("name", MODELS)
def test_shipped_models_are_served_with_their_fits(name, precision):
    upscaler = EmbeddedUpscaler(name, name, precision=precision, threads=1)
    made = CalibrationConfig().pipeline(upscaler)
    assert made.indecision.fit == shipped_fit(f"{name}-m1")
    own = [each for each in FITS if each.startswith(f"{name}-m1-")]
    assert made.indecision.fits == tuple(map(shipped_fit, own))
    assert not CalibrationConfig(input_rule=None).pipeline(upscaler).indecision.fits
    assert made.samples == 1


@pytest.mark.parametrize(
    ("config", "estimator"),
    [({"samples": 8}, "smoothed_variance"), ({"samples": 2}, "smoothed_variance"),
     ({"fidelity": {"metric": "pointwise"}}, "departure"),
     ({"indecision": {"estimator": "patch_variance"}}, "patch_variance"),
     ({"indecision": {"size": 3}, "samples": 1}, "departure")],
)  # fmt: skip
def test_a_fit_serves_only_what_it_was_made_for(config, estimator):
    """Another M, D or σ than that of a fit has a plain σ."""
    made = CalibrationConfig(**config).pipeline(EmbeddedUpscaler("span-x4"))
    assert made.indecision.estimator == estimator


MEGA = 10**6


def test_estimate():
    """The fastest of the last pictures: others were small, or shared the machine."""
    pace, upscaler = Throughput(), FakeUpscaler()
    assert pace.estimate(upscaler, MEGA, 1) is None
    assert pace.seconds_per_megapixel(upscaler) is None
    for pixels, samples, seconds in ((MEGA, 2, 20), (MEGA // 4, 2, 3), (1000, 1, 5)):
        pace.note(upscaler, pixels, samples, seconds)
    assert pace.seconds_per_megapixel(upscaler) == 6
    assert pace.estimate(upscaler, 3 * MEGA, 4) == 72
    for _ in range(16):  # the machine has become slower
        pace.note(upscaler, MEGA, 1, 30)
    assert pace.seconds_per_megapixel(upscaler) == 30


def test_much_larger_pictures():
    """Of an API whose calls have costs of their own a stamp tells nothing; of tiles it does."""
    pace = Throughput()
    remote = FakeUpscaler("remote")
    tiled = FakeUpscaler("tiled", capabilities=Capabilities(by_tiles=True))
    for upscaler in (remote, tiled):
        pace.note(upscaler, 1000, 1, 5)
    assert pace.estimate(remote, 4000, 1) == 20
    assert pace.estimate(remote, MEGA, 1) is None
    assert pace.estimate(tiled, MEGA, 1) == 5000


async def test_kept(tmp_path, monkeypatch):
    """The next process knows it, unless the model is another one or the file is damaged."""
    file = tmp_path / "throughput.json"
    upscaler = FakeUpscaler()
    with monkeypatch.context() as patched:
        patched.delattr(os, "fsync")  # the event loop waits for no disk
        Throughput(file).note(upscaler, MEGA, 1, 10)
    assert Throughput(file).estimate(upscaler, 2 * MEGA, 1) == 20
    assert Throughput(file).estimate(FakeUpscaler(fingerprint="fake:2"), MEGA, 1) is None
    for damaged in (b"", b"[]", b'{"fake": 1}', b'{"fake": {"fingerprint": "fake:1"}}'):
        file.write_bytes(damaged)
        assert Throughput(file).estimate(upscaler, MEGA, 1) is None
    # At a start the model is timed by one tile, whatever was known of it before.
    pace = Throughput()
    pace.note(upscaler, MEGA, 1, 1e-9)
    await pace.measure(upscaler)
    assert upscaler.calls == [[0]]
    assert pace.seconds_per_megapixel(upscaler) > 1e-6
