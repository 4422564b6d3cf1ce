"""What answers: the model's picture, its safe copy, or the plain enlargement."""

import asyncio

import numpy as np
import pytest
from PIL import Image

from harness.factories import photo
from harness.fakes import FakeUpscaler
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.fit import photograph_of
from trustscale_server.calibrating.pairs import Pair, Truth
from trustscale_server.conformal import fidelity
from trustscale_server.images.compression import LOSSLESS
from trustscale_server.kinds.features import look_at
from trustscale_server.platform.errors import BadRequest, CalibrationMismatch
from trustscale_server.sampling.measure import measure, measured_again, predict
from trustscale_server.sampling.sigma.added_score import UNCHANGED, safe_copy, score_added
from trustscale_server.upscalers.base import Capabilities, Source

SEED = 5


def upscaler(picture):
    """One whose samples are the same whatever answers."""
    return FakeUpscaler(capabilities=Capabilities(align_colours=False, picture=picture))


@pytest.fixture(name="source")
def a_source():
    pixels = photo(3, 48, 40)
    return Source(pixels, look_at(pixels, LOSSLESS))


def measured(source, picture):
    model = upscaler(picture)
    pipeline = CalibrationConfig().pipeline(model)
    assert pipeline.picture == picture
    return asyncio.run(measure(model, source, pipeline, SEED))


def enlarged(source):
    size = 2 * source.width, 2 * source.height
    return np.asarray(Image.fromarray(source.rgb).resize(size, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("picture", ["model", "safe", "plain"])
def test_what_answers(source, picture):
    """The sample, E + w·a, or E answers; σ is that of the sample in any case."""
    made = measured(source, "model")
    weights = score_added(source.rgb, made.prediction, source.features).weights
    wanted = {
        "model": made.prediction,
        "safe": safe_copy(source.rgb, made.prediction, weights),
        "plain": enlarged(source),
    }
    found = measured(source, picture)
    assert np.array_equal(found.prediction, wanted[picture])
    assert np.array_equal(found.sigma, made.sigma)
    alone = asyncio.run(predict(upscaler(picture), source, SEED))
    assert np.array_equal(alone, wanted[picture])


def test_what_the_safe_copy_adds(source):
    """Of what was added w·a is left, with the energy w² a²; the safe copy of that is itself."""
    made, safe = measured(source, "model"), measured(source, "safe")
    weights = made.added.weights / 255
    assert np.allclose(safe.added.energy, made.added.energy * weights**2, rtol=1e-5)
    assert 0.02 < weights.mean() < 0.98
    again = safe_copy(source.rgb, safe.prediction, safe.added.weights)
    assert np.array_equal(again, safe.prediction)
    is_seen = safe.added.codes != UNCHANGED
    assert is_seen.any()
    assert np.array_equal(safe.added.codes[is_seen], made.added.codes[is_seen])


def test_the_plain_enlargement_adds_nothing(source):
    """No cell of it is changed."""
    added = measured(source, "plain").added
    assert not added.energy.any()
    assert (added.codes == UNCHANGED).all()


@pytest.mark.parametrize("picture", ["safe", "plain"])
def test_a_calibration_is_about_one_picture(source, picture):
    """A mask of the model's errors is not served with another picture, nor the other way round."""
    for calibrated, live in (("model", picture), (picture, "model")):
        pipeline = CalibrationConfig().pipeline(upscaler(calibrated))
        with pytest.raises(CalibrationMismatch, match="picture"):
            asyncio.run(measure(upscaler(live), source, pipeline, SEED))


@pytest.mark.parametrize("picture", ["model", "safe", "plain"])
def test_measured_again(source, picture):
    """Kept samples give the same picture and σ as fresh ones, without the model."""
    model = upscaler(picture)
    sample = model.sample(source.rgb, measured(source, picture).seeds[0])
    again = measured_again([sample], source, CalibrationConfig().pipeline(model))
    found = measured(source, picture)
    assert np.array_equal(again.prediction, found.prediction)
    assert np.array_equal(again.sigma, found.sigma)


@pytest.mark.parametrize("picture", ["model", "safe", "plain"])
def test_a_fit_sees_the_errors_of_what_answers(source, picture):
    """σ of a job is fitted to the largest D of each cell of the picture that is calibrated."""
    model = upscaler(picture)
    pipeline = CalibrationConfig().pipeline(model)
    truth = Truth(np.asarray(enlarged(source))[::-1].copy(), "0" * 64)
    pair = Pair("a", source.rgb, truth, "", "", SEED, source.features)
    sample = model.sample(source.rgb, measured(source, picture).seeds[0])
    seen = photograph_of(pair, [sample], pipeline).sample
    error = fidelity.error(truth.y, measured(source, picture).prediction, pipeline.fidelity)
    assert seen.error.max() == error.max()


def test_no_safe_copy_of_data():
    """Detail of measured values is nothing that the shrinkage was fitted to."""
    with pytest.raises(BadRequest, match="none of data"):
        CalibrationConfig(stretch="p0,p100").pipeline(upscaler("safe"))
