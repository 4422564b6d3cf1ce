"""Calibrating from files: each pair once, whatever interrupts it, in any order."""

from __future__ import annotations

import asyncio
import json
import re
import shutil

import numpy as np
import pytest

from app.calibration.active import Calibrations
from app.calibration.config import CalibrationConfig, CalibrationRequest
from app.calibration.here import Here, NotFinished, run_id
from app.calibration.intake import Found, Intake, files_of, find_in, take_in
from app.calibration.measure import pack, reduce_pair, unpack
from app.calibration.pairs import check_left_out, load_pair
from app.calibration.record import Calibration
from app.errors import BadCalibration, ConfigError, UpscalerRejected
from app.sampling.measure import measure
from app.stores.open import open_stores
from app.upscalers.base import Capabilities, Source, image_digest
from tests.factories import encoded, photo, truths
from tests.fakes import FakeUpscaler
from tests.waiting import until

CONFIG = CalibrationConfig(degradation={}, samples=4)


async def checked(files, pipeline) -> Intake:
    """What the command line makes of files of pairs."""
    return await take_in(
        lambda: files_of(files), Found(files, []), pipeline, labels_are_claimed=False
    )


class Run:
    """Runs over a folder, as the command line makes them; what they keep survives them."""

    def __init__(self, place, folder, config=CONFIG):
        self.place = place
        self.folder = folder
        self.config = config

    async def __call__(self, upscaler, *, files=None, taken=None, on_progress=None):
        pipeline = self.config.pipeline(upscaler)
        files = files or find_in(self.folder)
        taken = taken or await checked(files, pipeline)
        check_left_out(taken.skipped, len(taken.usable), self.config.on_bad_pair)
        stores = open_stores("sqlite:///", self.place, result_ttl_s=60, max_result_bytes=10**9)
        calibrations = Calibrations(stores.calibrations)
        here = Here(self.place, {"fake": upscaler}, calibrations, stores.blobs, stores.monitor)
        try:
            return await here.make(
                upscaler, taken, files, self.config, pipeline, on_progress=on_progress
            )
        finally:
            await stores.close()


class Dying(FakeUpscaler):
    """Refuses every image after so many samples, for good."""

    def __init__(self, samples):
        super().__init__(capabilities=Capabilities(concurrency=1))
        self.samples = samples

    async def generate(self, source, seeds, turn=None):
        if len(self.calls) >= self.samples:
            raise UpscalerRejected("The model broke.")
        return await super().generate(source, seeds, turn)


def same(one: Calibration, other: Calibration) -> bool:
    """Whether two calibrations promise the same at every α."""
    return np.array_equal(one.curve.thresholds, other.curve.thresholds) and np.array_equal(
        one.curve.risks, other.curve.risks
    )


class TestOrder:
    async def test_order_and_names_do_not_matter(self, tmp_path):
        """Shuffled and renamed pairs give the same thresholds at every α; another seed does not."""
        folder = truths(tmp_path / "one", 4)
        renamed = tmp_path / "other"
        renamed.mkdir()
        for k, path in enumerate(sorted(folder.iterdir())):
            shutil.copy(path, renamed / f"{(3 * k + 1) % 4}-z.png")
        first = await Run(tmp_path / "data", folder)(FakeUpscaler())
        again = await Run(tmp_path / "data", folder)(FakeUpscaler(), files=find_in(folder)[::-1])
        other = await Run(tmp_path / "data", renamed)(
            FakeUpscaler(capabilities=Capabilities(concurrency=1))
        )
        assert same(first, again)
        assert same(first, other)
        assert [p.name for p in first.manifest.pairs] == [p.name for p in again.manifest.pairs]
        seeded = CONFIG.model_copy(update={"seed": 1})
        assert not same(first, await Run(tmp_path / "data", folder, seeded)(FakeUpscaler()))


class TestLabels:
    async def labelled(self, tmp_path, claim):
        """A semantic run over two labelled pairs; `claim` makes what predictions.json says."""
        config = CalibrationConfig(degradation={}, samples=4, fidelity={"metric": "semantic"})
        pipeline = config.pipeline(FakeUpscaler())
        folder = tmp_path / "photos"
        truths(folder / "y", 2)
        (folder / "labels").mkdir()
        digests = {}
        for file in (folder / "y").iterdir():
            (folder / "labels" / file.name).write_bytes(encoded(photo(9, 48, 48)))
            pair = load_pair("", file.read_bytes(), None, pipeline, degradation=None, seed=0)
            made = await measure(FakeUpscaler(), Source(pair.x), pipeline, pair.seed)
            digests[file.stem] = image_digest(made.prediction)
        if claim is not None:
            claimed = json.dumps({**digests, **claim})
            (folder / "labels" / "predictions.json").write_text(claimed)
        return await Run(tmp_path / "data", folder, config)(FakeUpscaler())

    @pytest.mark.parametrize("claim", [{}, None])
    async def test_drawn_on_these_predictions(self, tmp_path, claim):
        """Labels of the predictions at hand are used, and those that say nothing of them."""
        assert (await self.labelled(tmp_path, claim)).n == 2

    async def test_drawn_on_others(self, tmp_path):
        """A label says nothing about another prediction: the pair is named."""
        with pytest.raises(NotFinished, match="001: the label was not drawn on this prediction"):
            await self.labelled(tmp_path, {"001": "0" * 64})


class TestResume:
    async def test_only_missing_pairs_are_generated(self, tmp_path):
        """After a failure the same run goes on with the others, with the outcome of a whole one.

        What was measured serves a command with another name or α too.
        """
        folder = truths(tmp_path / "photos", 5)
        whole = await Run(tmp_path / "other", folder)(FakeUpscaler())
        with pytest.raises(NotFinished, match=r"The model broke\. Run the same command") as caught:
            await Run(tmp_path / "data", folder)(Dying(12))
        kept = int(re.search(r"(\d+) of 5 pairs are kept", caught.value.detail)[1])
        assert 1 <= kept <= 3
        upscaler, told = FakeUpscaler(), []
        config = CONFIG.model_copy(update={"name": "mine", "default_alpha": 0.2})
        resumed = await Run(tmp_path / "data", folder, config)(
            upscaler, on_progress=lambda *step: told.append(step)
        )
        assert len(upscaler.calls) == (5 - kept) * 4
        assert same(whole, resumed)
        assert (resumed.manifest.name, resumed.manifest.default_alpha) == ("mine", 0.2)
        assert told[-1] == (5, 5)
        assert {done for done, _ in told} <= {0, *range(kept, 6)}
        assert list((tmp_path / "data" / "blobs").glob("calibrate-*")) == []

    async def test_a_file_that_vanished(self, tmp_path):
        """Files are read where they lie; one that is gone is named."""
        folder = truths(tmp_path / "photos", 3)

        class Removing(FakeUpscaler):
            async def generate(self, source, seeds, turn=None):
                for path in folder.iterdir():
                    path.unlink()
                return await super().generate(source, seeds, turn)

        with pytest.raises(NotFinished, match="cannot be read"):
            await Run(tmp_path / "data", folder)(Removing(capabilities=Capabilities()))

    @pytest.mark.parametrize(("policy", "kept"), [("skip", 0), ("fail", 2)])
    async def test_files_that_changed(self, tmp_path, policy, kept):
        """Bytes that were not checked are not measured; the error says why, and what goes on.

        Where no pair is left the same command would end alike: nothing is kept.
        """
        folder = truths(tmp_path / "photos", 3)
        config = CONFIG.model_copy(update={"on_bad_pair": policy})
        run = Run(tmp_path / "data", folder, config)
        taken = await checked(find_in(folder), config.pipeline(FakeUpscaler()))
        for k in range(kept, 3):
            (folder / f"{k:03}.png").write_bytes(encoded(photo(50 + k, 48, 48)))
        with pytest.raises(NotFinished, match="changed after they were checked") as caught:
            await run(FakeUpscaler(capabilities=Capabilities(concurrency=1)), taken=taken)
        assert "Run the same command" not in caught.value.detail
        assert ("--skip-bad-pairs" in caught.value.detail) == bool(kept)
        assert [*(tmp_path / "data" / "blobs").rglob("*.*")] == []

    async def test_twice_at_a_time(self, tmp_path):
        """Two processes do not pay for the same pairs."""
        folder = truths(tmp_path / "photos", 2)
        run = Run(tmp_path / "data", folder)
        slow = FakeUpscaler(seconds=60)
        first = asyncio.create_task(run(slow))
        await until(lambda: slow.calls)
        with pytest.raises(ConfigError, match="Another process"):
            await run(FakeUpscaler())
        first.cancel()
        await asyncio.wait({first})
        assert (await run(FakeUpscaler())).n == 2

    async def test_the_id_of_a_run(self, tmp_path):
        """Equal pairs and settings find each other; anything that changes σ or D does not."""
        files = find_in(truths(tmp_path, 3))
        upscaler = FakeUpscaler()

        async def made(config=CONFIG, upscaler=upscaler, files=files):
            pipeline = config.pipeline(upscaler)
            uploads = (await checked(files, pipeline)).usable
            request = CalibrationRequest.asking(
                config, pipeline, upscaler, uploads, skipped=[], created_by="local"
            )
            return run_id(request)

        ids = [
            await made(),
            await made(CalibrationConfig(degradation={}, samples=5)),
            await made(CalibrationConfig(degradation={}, samples=4, seed=1)),
            await made(CalibrationConfig(samples=4, degradation={"noise": 2})),
            await made(CalibrationConfig(degradation={}, samples=4, indecision={"blur": 1})),
            await made(CalibrationConfig(degradation={}, samples=4, fit_indecision=0.5)),
            await made(upscaler=FakeUpscaler(fingerprint="fake:2")),
            await made(files=files[:2]),
        ]
        assert len(set(ids)) == len(ids)
        assert (
            await made(CalibrationConfig(degradation={}, samples=4, name="other", activate=True))
            == ids[0]
        )
        assert await made(files=files[::-1]) == ids[0]

        # Which pairs σ is fitted on follows from the scenes.
        fitting = CalibrationConfig(degradation={}, samples=4, fit_indecision=0.85)
        many = find_in(truths(tmp_path / "many", 24, side=16))
        crops = [pair._replace(scene="one" if k < 3 else None) for k, pair in enumerate(many)]
        assert await made(fitting, files=many) != await made(fitting, files=crops)
        assert await made(files=many) == await made(files=crops)


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
