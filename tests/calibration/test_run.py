"""Calibrating from files: each pair once, whatever interrupts it, in any order."""

from __future__ import annotations

import asyncio
import json
import shutil

import numpy as np
import pytest

from app.calibration.config import CalibrationConfig
from app.calibration.folder import find_pairs
from app.calibration.measure import measure_pair, pack, unpack
from app.calibration.pairs import load_pair
from app.calibration.record import Calibration, Provenance
from app.calibration.run import check_pairs, finish, measure_pairs, run_id
from app.errors import BadCalibration, BadPairs, DegenerateSamples, UpscalerFailed
from app.sampling.measure import measure
from app.upscalers.base import Capabilities, Source, image_digest
from tests.factories import calibration_of, encoded, photo, truths
from tests.fakes import FakeUpscaler

CONFIG = CalibrationConfig(samples=4)


class Killed(Exception):
    """The process ends here."""


class Run:
    """One run over a folder; what it keeps survives it."""

    def __init__(self, folder, config=CONFIG):
        self.folder = folder
        self.config = config
        self.kept = {}

    async def __call__(self, upscaler, *, files=None, die_after=None):
        pipeline = self.config.pipeline(upscaler)
        pairs = await check_pairs(files or find_pairs(self.folder), self.config, pipeline)

        async def keep(key, data):
            if die_after is not None and len(self.kept) == die_after:
                raise Killed
            self.kept[key] = data

        measured = await measure_pairs(
            upscaler, pairs.usable, self.config, pipeline, done=self.kept, checkpoint=keep
        )
        return finish(measured, pairs.skipped, self.config, upscaler, pipeline, Provenance())


def same(one: Calibration, other: Calibration) -> bool:
    """Whether two calibrations promise the same at every α."""
    return np.array_equal(one.curve.thresholds, other.curve.thresholds) and np.array_equal(
        one.curve.risks, other.curve.risks
    )


class TestOrder:
    async def test_order_and_names_do_not_matter(self, tmp_path):
        """Shuffled and renamed pairs give the same thresholds at every α."""
        folder = truths(tmp_path / "one", 8)
        renamed = tmp_path / "other"
        renamed.mkdir()
        for k, path in enumerate(sorted(folder.iterdir())):
            shutil.copy(path, renamed / f"{(3 * k + 5) % 8}-z.png")
        first = await Run(folder)(FakeUpscaler())
        again = await Run(folder)(FakeUpscaler(), files=find_pairs(folder)[::-1])
        other = await Run(renamed)(FakeUpscaler(capabilities=Capabilities(concurrency=1)))
        assert same(first, again)
        assert same(first, other)
        assert [p.name for p in first.manifest.pairs] == [p.name for p in again.manifest.pairs]

    async def test_the_seed_matters(self, tmp_path):
        """Another seed draws other samples."""
        folder = truths(tmp_path, 4)
        other = CalibrationConfig(samples=4, seed=1)
        assert not same(await Run(folder)(FakeUpscaler()), await Run(folder, other)(FakeUpscaler()))

    async def test_the_record(self, tmp_path):
        """The calibration says what it was made of."""
        made = await Run(truths(tmp_path, 3))(FakeUpscaler())
        assert made.n == 3
        assert made.curve.min_alpha == made.bound / 4
        assert made.manifest.upscaler == "fake"
        assert made.pipeline == CONFIG.pipeline(FakeUpscaler())
        assert {(p.width, p.height) for p in made.manifest.pairs} == {(48, 48)}
        assert len({p.y_sha256 for p in made.manifest.pairs}) == 3


class TestDuplicates:
    async def test_the_same_pixels_in_another_file(self, tmp_path):
        """A copy that was encoded again is found, named with its twin, and left out if asked."""
        folder = truths(tmp_path, 3)
        copy = encoded(photo(1, 48, 48), "WEBP", lossless=True)
        (folder / "copy.webp").write_bytes(copy)
        shutil.copy(folder / "000.png", folder / "bytes.png")
        skipping = CalibrationConfig(samples=4, on_bad_pair="skip")
        pipeline = skipping.pipeline(FakeUpscaler())
        pairs = await check_pairs(find_pairs(folder), skipping, pipeline)
        assert [pair.files.name for pair in pairs.usable] == ["000", "001", "002"]
        assert {item["name"]: item["reason"] for item in pairs.skipped} == {
            "bytes": "the same image as 000",
            "copy": "duplicates 001 by content",
        }
        with pytest.raises(BadPairs, match="copy: duplicates 001 by content"):
            await check_pairs(find_pairs(folder), CONFIG, pipeline)


class TestLabels:
    async def labelled(self, tmp_path, claim):
        """A semantic run over two labelled pairs; `claim` makes what predictions.json says."""
        config = CalibrationConfig(samples=4, fidelity={"metric": "semantic"})
        truths(tmp_path / "y", 2)
        (tmp_path / "labels").mkdir()
        digests = {}
        for k in range(2):
            (tmp_path / "labels" / f"{k:03}.png").write_bytes(encoded(photo(9, 48, 48)))
            file = (tmp_path / "y" / f"{k:03}.png").read_bytes()
            pipeline = config.pipeline(FakeUpscaler())
            pair = load_pair(f"{k:03}", file, None, pipeline, degradation=None, seed=0)
            made = await measure(FakeUpscaler(), Source(pair.x), pipeline, pair.seed)
            digests[pair.name] = image_digest(made.prediction)
        (tmp_path / "labels" / "predictions.json").write_text(json.dumps(claim(digests)))
        return await Run(tmp_path, config)(FakeUpscaler())

    async def test_drawn_on_these_predictions(self, tmp_path):
        """Labels whose predictions are the ones at hand are used."""
        assert (await self.labelled(tmp_path, lambda digests: digests)).n == 2

    async def test_drawn_on_others(self, tmp_path):
        """A label says nothing about another prediction: the pair is named."""
        with pytest.raises(BadPairs, match="001: the label was not drawn on this prediction"):
            await self.labelled(tmp_path, lambda digests: {**digests, "001": "0" * 64})

    async def test_a_label_that_is_not_named(self, tmp_path):
        """Where predictions are named at all, each label's is."""
        with pytest.raises(BadPairs, match=r"001: labels/predictions\.json does not name"):
            await self.labelled(tmp_path, lambda digests: {"000": digests["000"]})


class TestResume:
    async def test_only_missing_pairs_are_generated(self, tmp_path):
        """Killed after k pairs, the second run generates the others, with the same outcome."""
        folder = truths(tmp_path, 8)
        whole = await Run(folder)(FakeUpscaler())
        run = Run(folder)
        with pytest.raises(Killed):
            await run(FakeUpscaler(), die_after=3)
        assert len(run.kept) == 3
        upscaler = FakeUpscaler()
        resumed = await run(upscaler)
        assert len(upscaler.calls) == (8 - 3) * 4
        assert same(whole, resumed)
        idle = FakeUpscaler()
        assert same(whole, await run(idle))
        assert idle.calls == []

    async def test_a_failing_pair_keeps_the_others(self, tmp_path):
        """An error of the model is that error, not a group; measured pairs are kept."""

        class Moody(FakeUpscaler):
            async def generate(self, source, seeds, turn=None):
                if len(self.calls) >= 10:
                    self.failure = UpscalerFailed("The model broke.")
                return await super().generate(source, seeds, turn)

        run = Run(truths(tmp_path, 8))
        with pytest.raises(UpscalerFailed, match="The model broke"):
            await run(Moody(capabilities=Capabilities(concurrency=1)))
        kept = len(run.kept)
        assert 1 <= kept < 8
        upscaler = FakeUpscaler()
        assert (await run(upscaler)).n == 8
        assert len(upscaler.calls) == (8 - kept) * 4

    async def test_degenerate_samples_stop_it(self, tmp_path):
        """Calibration refuses what serving refuses."""

        class Stuck(FakeUpscaler):
            def sample(self, rgb, seed):
                return super().sample(rgb, 1)

        with pytest.raises(DegenerateSamples):
            await Run(truths(tmp_path, 2))(Stuck())

    async def test_progress_counts_what_was_done_before(self, tmp_path):
        """A resumed run starts where the last one stopped."""
        folder = truths(tmp_path, 5)
        run = Run(folder)
        with pytest.raises(Killed):
            await run(FakeUpscaler(), die_after=2)
        pipeline = CONFIG.pipeline(FakeUpscaler())
        pairs = await check_pairs(find_pairs(folder), CONFIG, pipeline)
        told = []

        async def keep(key, data):
            await asyncio.sleep(0)

        await measure_pairs(
            FakeUpscaler(),
            pairs.usable,
            CONFIG,
            pipeline,
            done=run.kept,
            checkpoint=keep,
            on_progress=lambda *p: told.append(p),
        )
        assert told == [(k, 5) for k in range(2, 6)]

    async def test_the_id_of_a_run(self, tmp_path):
        """Equal pairs and settings find each other; anything that changes σ or D does not."""
        files = find_pairs(truths(tmp_path, 3))
        upscaler = FakeUpscaler()

        async def made(config=CONFIG, upscaler=upscaler, files=files):
            pipeline = config.pipeline(upscaler)
            pairs = await check_pairs(files, config, pipeline)
            return run_id(pairs.usable, config, pipeline)

        ids = [
            await made(),
            await made(CalibrationConfig(samples=5)),
            await made(CalibrationConfig(samples=4, seed=1)),
            await made(CalibrationConfig(samples=4, degradation={"noise": 2})),
            await made(CalibrationConfig(samples=4, indecision={"blur": 1})),
            await made(upscaler=FakeUpscaler(fingerprint="fake:2")),
            await made(files=files[:2]),
        ]
        assert len(set(ids)) == len(ids)
        assert await made(CalibrationConfig(samples=4, name="other", activate=True)) == ids[0]
        assert await made(files=files[::-1]) == ids[0]


class TestCheckpoints:
    async def test_round_trip(self):
        """A checkpoint is exactly the measured pair."""
        pipeline = CONFIG.pipeline(FakeUpscaler())
        pair = load_pair("ä/b", encoded(photo(1, 48, 48)), None, pipeline, degradation=None, seed=0)
        measured = await measure_pair(FakeUpscaler(), pair, pipeline)
        again = unpack(pack(measured))
        assert again.info == measured.info
        assert again.staircase == measured.staircase
        np.testing.assert_array_equal(again.sigma_quantiles, measured.sigma_quantiles)

    @pytest.mark.parametrize("data", [b"", b"text", b"PK\x05\x06" + b"\0" * 18])
    def test_damage(self, data):
        """Damage is told as such."""
        with pytest.raises(BadCalibration, match="damaged"):
            unpack(data)


class TestExtension:
    async def test_old_staircases_are_reused(self):
        """Old and new pairs together are the calibration that all pairs at once would have made."""
        everything = await calibration_of(FakeUpscaler(), 12)
        pairs = everything.measured_pairs()
        options = {"upscaler": "fake", "pipeline": everything.pipeline}
        part = Calibration.from_pairs(pairs[:7], **options)
        extended = Calibration.from_pairs([*part.measured_pairs(), *pairs[7:]], **options)
        assert extended.n == 12
        assert same(extended, everything)
        assert extended.manifest.pairs == everything.manifest.pairs
        np.testing.assert_array_equal(extended.sigma_quantiles, everything.sigma_quantiles)
        assert extended.curve.min_alpha < part.curve.min_alpha
