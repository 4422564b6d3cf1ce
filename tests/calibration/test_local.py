"""What the command line calls a calibration by, and the checkpoints that it goes on from."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from app.calibration.config import CalibrationConfig, CalibrationRequest
from app.calibration.intake import find, folder_files, take_in
from app.calibration.local import run_id
from app.calibration.measure import pack, reduce_pair, unpack
from app.calibration.naming import Naming
from app.calibration.pairs import load_pair
from app.calibration.record import Calibration
from app.errors import BadCalibration
from app.sampling.measure import measure
from app.upscalers.base import Source
from tests.factories import encoded, photo, truths
from tests.fakes import FakeUpscaler

CONFIG = CalibrationConfig(degradation={}, samples=4)


async def test_the_id_of_a_run(tmp_path):
    """Equal pairs and settings find each other; anything that changes σ or D does not."""

    async def made(config=CONFIG, upscaler=None, folder=None, **renamed):
        upscaler = upscaler or FakeUpscaler()
        files = partial(folder_files, folder or truths(tmp_path / "photos", 3))
        found = find(files(), Naming())
        pairs = [pair._replace(**renamed.get(f"p{pair.name}", {})) for pair in found.pairs]
        pipeline = config.pipeline(upscaler)
        taken = await take_in(files, found._replace(pairs=pairs), pipeline)
        facts = {"skipped": [], "created_by": "test"}
        return run_id(CalibrationRequest.asking(config, pipeline, upscaler, taken.usable, **facts))

    def config(**changes):
        return CalibrationConfig(**{"degradation": {}, "samples": 4, **changes})

    ids = [
        await made(),
        await made(config(samples=5)),
        await made(config(seed=1)),
        await made(config(degradation={"noise": 2})),
        await made(config(indecision={"blur": 1})),
        await made(config(fit_indecision=0.5)),
        await made(upscaler=FakeUpscaler(fingerprint="fake:2")),
        await made(folder=truths(tmp_path / "fewer", 2)),
    ]
    assert len(set(ids)) == len(ids)
    assert await made(config(name="other", activate=True, default_alpha=0.2)) == ids[0]

    # Which pairs σ is fitted on follows from the scenes.
    fitting = config(fit_indecision=0.85)
    many = truths(tmp_path / "many", 24, side=16)
    crops = {f"p{k:03}": {"scene": "one"} for k in range(3)}
    assert await made(fitting, folder=many) != await made(fitting, folder=many, **crops)
    assert await made(folder=many) == await made(folder=many, **crops)


class TestCheckpoints:
    async def test_round_trip(self):
        """A checkpoint is exactly the measured pair."""
        pipeline = CONFIG.pipeline(FakeUpscaler())
        pair = load_pair("ä/b", encoded(photo(1, 48, 48)), None, pipeline, degradation=None, seed=0)
        measurement = await measure(FakeUpscaler(), Source(pair.x), pipeline, pair.seed)
        measured = reduce_pair(pair, measurement, pipeline)
        again = unpack(pack(measured))
        assert again.info == measured.info
        assert again.staircase == measured.staircase
        np.testing.assert_array_equal(again.sigma_quantiles, measured.sigma_quantiles)

    async def test_the_range_of_sigma(self):
        """The quantiles of a pair reach from its smallest σ to its largest; there curves end."""
        pipeline = CONFIG.pipeline(FakeUpscaler())
        pair = load_pair("a", encoded(photo(1, 48, 48)), None, pipeline, degradation=None, seed=0)
        measurement = await measure(FakeUpscaler(), Source(pair.x), pipeline, pair.seed)
        measured = reduce_pair(pair, measurement, pipeline)
        sigma = measurement.sigma
        assert tuple(measured.sigma_quantiles[[0, -1]]) == (sigma.min(), sigma.max())
        made = Calibration.from_pairs([measured], upscaler="fake", pipeline=pipeline)
        assert made.curve.threshold(made.bound) == np.nextafter(sigma.max(), np.float32(np.inf))

    @pytest.mark.parametrize("data", [b"", b"text", b"PK\x05\x06" + b"\0" * 18])
    def test_damage(self, data):
        """Damage is told as such."""
        with pytest.raises(BadCalibration, match="damaged"):
            unpack(data)
