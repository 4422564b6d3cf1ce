"""The one-file form: a faithful copy, and every kind of damage noticed."""

import asyncio
import hashlib
import io
import json
import math
import pickle
import zipfile
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.admin import zipped
from harness.factories import calibration_of, changed, photo, with_arrays
from harness.fakes import FakeUpscaler
from trustscale_server.calibration import file
from trustscale_server.conformal import LossCurve
from trustscale_server.conformal.loss_curve import LossCurves
from trustscale_server.images.encoding.png import to_png
from trustscale_server.platform.errors import BadCalibration

UNFITTING = (
    {"default_alpha": 0.2},
    {"upscaler": "other"},
    {"skipped": [{"name": "a", "reason": "b"}]},
)
MALFORMED = ({"pipeline": {}}, {"pairs": "none"}, {"default_alpha": math.nan}, {"unknown": 1})
DOCUMENT = "calibration.json"
STEPS, _, PAIRS = ARRAYS = ("loss_curves.npy", "lengths.npy", "pairs.npy")


def edited(parts, *, manifest=None, **fields):
    """The members with these fields of the document, and of the manifest in it."""
    document = json.loads(parts[DOCUMENT])
    document.update(fields)
    document["manifest"].update(manifest or {})
    return {**parts, DOCUMENT: json.dumps(document).encode()}


def with_array(parts, name, data):
    """The members with another array, which the checksums in the document fit."""
    parts = {**parts, name: data}
    sums = {name: hashlib.sha256(parts[name]).hexdigest() for name in ARRAYS}
    return edited(parts, sha256=sums)


def npy(array):
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def stored(values):
    """The member of uint16 [a, b]: differences of neighbours, byte by byte."""
    steps = np.diff(values.astype(np.int64), axis=1, prepend=0)
    return npy(np.stack([steps >> 8 * byte & 255 for byte in range(2)], 1).astype(np.uint8))


def read(member):
    """The values of a member, int64 [a, b]."""
    planes = np.load(io.BytesIO(member)).astype(np.int64)
    return (planes[:, 0] + 256 * planes[:, 1]).cumsum(axis=1) % 2**16


def floats(halves):
    """Numbers from the upper halves of their float32."""
    return (halves << 16).astype(np.uint32).view(np.float32)


def halves(floats):
    return np.ascontiguousarray(floats, np.float32).view(np.uint32) >> 16


@pytest.fixture(scope="module")
def calibration():
    """Twelve pairs of one, two or three spots."""
    sides = iter([(48, 48), (48, 200), (48, 300)] * 4)
    return asyncio.run(
        calibration_of(FakeUpscaler(), 12, file=lambda k: to_png(photo(k, *next(sides))))
    )


@pytest.fixture(scope="module")
def data(calibration):
    return file.dump(calibration)


@pytest.fixture(scope="module")
def parts(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def check_refused(parts, words=None):
    with pytest.raises(BadCalibration, match=words) as caught:
        file.load(zipped(parts))
    assert "\n" not in caught.value.detail


class TestRoundTrip:
    def test_everything_comes_back(self, calibration, data):
        """Document, loss curves, quantiles, id and curve are exactly those that were written."""
        again = file.load(data)
        assert again.id == calibration.id
        assert again.document == calibration.document
        assert again.manifest == calibration.manifest
        assert list(again.arrays.loss_curves) == list(calibration.arrays.loss_curves)
        np.testing.assert_array_equal(
            again.arrays.sigma_quantiles, calibration.arrays.sigma_quantiles
        )
        np.testing.assert_array_equal(again.curve.risks, calibration.curve.risks)
        assert again.head == calibration.head
        # Nothing but the content is in the file: no date of writing, no order of members.
        assert file.dump(calibration) == file.dump(again) == data

    def test_arrays_as_described(self, calibration, parts):
        """A program of another language reads the arrays as the format says."""
        steps, lengths, pairs = (read(parts[name]) for name in ARRAYS)
        spots = [int(count) for count in calibration.arrays.spots]
        assert pairs[:, 0].tolist() == spots
        np.testing.assert_array_equal(floats(pairs[:, 1:]), calibration.arrays.sigma_quantiles)
        assert lengths.tolist() == [[len(one) for one in calibration.arrays.loss_curves]]
        for row, part in zip(floats(steps), ("levels", "errors"), strict=True):
            values = [getattr(one, part) for one in calibration.arrays.loss_curves]
            np.testing.assert_array_equal(row, np.concatenate(values))
        assert [stored(one) for one in (steps, lengths, pairs)] == [parts[name] for name in ARRAYS]

    def test_fields_of_a_later_version_keep_the_id(self, calibration):
        """The id belongs to what was written, not to how this version reads it."""
        document = json.loads(json.dumps(calibration.document))
        del document["provenance"]["note"]  # as if it had been written before there was one
        older = replace(calibration, document=document)
        again = file.load(file.dump(older))
        assert again.id == older.id != calibration.id
        assert again.manifest.provenance.note is None


def test_it_follows_from_the_content(calibration):
    """Any change of document or arrays is another id; an equal copy has the same."""
    curves, quantiles = list(calibration.arrays.loss_curves), calibration.arrays.sigma_quantiles
    document = dict(calibration.document)
    copy = replace(with_arrays(calibration, sigma_quantiles=quantiles.copy()), document=document)
    assert copy.id == calibration.id
    taller = LossCurve(curves[0].levels, curves[0].errors * np.float32(1.001))
    touched = quantiles.copy()
    touched[3, 50] = np.nextafter(touched[3, 50], np.float32(1))
    others = {
        changed(calibration, name="other").id,
        changed(calibration, default_alpha=0.2).id,
        with_arrays(calibration, loss_curves=LossCurves.from_curves([taller, *curves[1:]])).id,
        with_arrays(calibration, loss_curves=LossCurves.from_curves(curves[::-1])).id,
        with_arrays(calibration, sigma_quantiles=touched).id,
    }
    assert len(others) == 5
    assert calibration.id not in others


class TestDamage:
    @pytest.mark.parametrize("rubbish", [b"", b"text", b"PK\x03\x04", b"\0" * 1000])
    def test_other_files(self, rubbish):
        with pytest.raises(BadCalibration, match="not a calibration"):
            file.load(rubbish)

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"version": 1}, "has version 1"),
            *(({"sha256": sums}, None) for sums in (None, [], {}, {STEPS: 1})),
            *(({"manifest": changed}, "id does not match") for changed in UNFITTING),
            *(({"manifest": bad}, f"is invalid: {next(iter(bad))}") for bad in MALFORMED),
        ],
    )
    def test_edits_of_the_document(self, parts, fields, words):
        """Whatever is changed in the document is noticed, and said in one line."""
        check_refused(edited(parts, **fields), words)

    def test_edits_of_the_arrays(self, parts):
        """A checksum notices it, and the id where that was made to fit."""
        steps, lengths, pairs = (read(parts[name]) for name in ARRAYS)
        steps[1] -= 1 << 7  # half of each error
        places = np.flatnonzero(lengths[0] > 1)[:2]
        lengths[0, places] += [-1, 1]
        pairs[:, 0] = pairs[::-1, 0]
        for name, array in zip(ARRAYS, (steps, lengths, pairs), strict=True):
            check_refused({**parts, name: stored(array)}, f"{name} fails its checksum")
            check_refused(with_array(parts, name, stored(array)), "id does not match|rising")

    @pytest.mark.parametrize(
        ("row", "change"),
        [(0, np.flip), (1, np.flip), (1, np.negative),
         (0, lambda values: np.where(values == values[0], np.nan, values)),
         (1, lambda values: np.where(values == values[0], np.inf, values))],
    )  # fmt: skip
    def test_loss_curves_that_are_none(self, calibration, parts, row, change):
        """Steps that fall or are infinite are refused though checksum and id fit."""
        steps = read(parts[STEPS])
        steps[row] = halves(change(floats(steps[row])))
        curves = LossCurves(*floats(steps), calibration.arrays.loss_curves.lengths)
        forged = with_arrays(calibration, loss_curves=curves).id
        parts = edited(with_array(parts, STEPS, stored(steps)), id=forged)
        check_refused(parts, "rising")

    @pytest.mark.parametrize("spots", [[0, 3], [2**16 - 1, 3], [3, 1]])
    def test_spots_are_counted(self, parts, spots):
        """Every pair has one at least, and together as many as there are loss curves."""
        pairs = read(parts[PAIRS])
        pairs[:2, 0] = spots
        check_refused(with_array(parts, PAIRS, stored(pairs)), "array sizes do not match")

    def test_pickles_are_never_opened(self, parts):
        class Evil:
            def __reduce__(self):
                return (pytest.fail, ("code was run",))

        array = np.empty((2, 1), object)
        array[0, 0] = Evil()
        header = npy(np.zeros((2, 2, 1), np.uint8)).replace(b"'|u1'", b"'|O'").split(b"\n")[0]
        for evil in (npy(array), pickle.dumps(Evil()), header + b"\n" + pickle.dumps(1)):
            check_refused(with_array(parts, STEPS, evil))

    def test_zip_bombs(self, parts, monkeypatch):
        bomb = zipped({**parts, STEPS: b"\0" * (257 * 1024 * 1024)})
        assert len(bomb) < 1024 * 1024
        monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("unpacked"))
        with pytest.raises(BadCalibration, match="too large"):
            file.load(bomb)

    @settings(max_examples=60)
    @given(draw=st.data())
    def test_any_damage_is_noticed(self, data, draw):
        """One changed byte anywhere: the same calibration or an error of ours, nothing else."""
        damaged = bytearray(data)
        place = draw.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = draw.draw(st.integers(0, 255).filter(lambda b: b != data[place]))
        with suppress(BadCalibration):
            # A byte of the archive that carries no content, such as a date, may change.
            assert file.load(bytes(damaged)).id == file.load(data).id
