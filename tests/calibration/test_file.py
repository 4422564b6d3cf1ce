"""The one-file form: a faithful copy, and every kind of damage noticed."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.calibration import file
from app.calibration.record import Calibration
from app.conformal import Staircase
from app.errors import BadCalibration
from tests.factories import changed


def members(data):
    """The members of a calibration file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts):
    """A file of these members; the checksums in the document are made to fit."""
    document = json.loads(parts["calibration.json"])
    document["sha256"] = {
        name: hashlib.sha256(data).hexdigest()
        for name, data in parts.items()
        if name != "calibration.json"
    }
    return zipped({**parts, "calibration.json": json.dumps(document).encode()})


def zipped(parts):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return out.getvalue()


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.fixture(scope="module")
def data(calibration):
    return file.dump(calibration)


@pytest.fixture
def parts(data):
    return members(data)


class TestRoundTrip:
    def test_everything_comes_back(self, calibration, data):
        """Document, staircases, quantiles, id and curve are exactly those that were written."""
        again = file.load(data)
        assert again.id == calibration.id
        assert again.document == calibration.document
        assert again.manifest == calibration.manifest
        assert list(again.staircases) == list(calibration.staircases)
        np.testing.assert_array_equal(again.sigma_quantiles, calibration.sigma_quantiles)
        np.testing.assert_array_equal(again.curve.thresholds, calibration.curve.thresholds)
        np.testing.assert_array_equal(again.curve.risks, calibration.curve.risks)
        assert again.head == calibration.head

    def test_equal_calibrations_are_equal_files(self, calibration, data):
        """Nothing but the content is in the file: no date of writing, no order of members."""
        assert file.dump(calibration) == data
        assert file.dump(file.load(data)) == data

    def test_images_without_error(self, calibration):
        """A staircase without breakpoints survives among others."""
        none = Staircase(np.empty(0, np.float32), np.empty(0, np.float32))
        staircases = [none, *calibration.staircases[1:-1], none]
        some = Calibration(calibration.document, staircases, calibration.sigma_quantiles)
        assert list(file.load(file.dump(some)).staircases) == staircases

    def test_without_pairs(self, calibration):
        """A file of no pairs is no calibration."""
        none = changed(calibration, pairs=[])
        empty = Calibration(none.document, [], calibration.sigma_quantiles[:0])
        with pytest.raises(BadCalibration, match="no pairs"):
            file.load(file.dump(empty))

    def test_only_standard_tools_are_needed(self, parts):
        """The members are JSON and plain arrays."""
        assert set(parts) == {"calibration.json", "staircases.npy", "pairs.npy"}
        document = json.loads(parts["calibration.json"])
        assert document["format"] == "trustscale-calibration"
        steps = np.load(io.BytesIO(parts["staircases.npy"]), allow_pickle=False)
        pairs = np.load(io.BytesIO(parts["pairs.npy"]), allow_pickle=False)
        assert steps.shape == (2, pairs[:, 0].sum())
        assert len(document["manifest"]["pairs"]) == len(pairs) == 12

    def test_fields_of_a_later_version_keep_the_id(self, calibration):
        """The id belongs to what was written, not to how this version reads it."""
        document = json.loads(json.dumps(calibration.document))
        del document["provenance"]["note"]  # as if it had been written before there was one
        older = Calibration(document, calibration.staircases, calibration.sigma_quantiles)
        again = file.load(file.dump(older))
        assert again.id == older.id != calibration.id
        assert again.manifest.provenance.note is None


class TestId:
    def test_it_follows_from_the_content(self, calibration):
        """Any change of document or arrays is another id; an equal copy has the same."""
        staircases, quantiles = list(calibration.staircases), calibration.sigma_quantiles
        copy = Calibration(dict(calibration.document), staircases, quantiles.copy())
        assert copy.id == calibration.id
        taller = Staircase(staircases[0].levels, staircases[0].errors * np.float32(1.001))
        touched = quantiles.copy()
        touched[3, 50] = np.nextafter(touched[3, 50], np.float32(1))
        others = {
            changed(calibration, name="other").id,
            changed(calibration, default_alpha=0.2).id,
            Calibration(calibration.document, [taller, *staircases[1:]], quantiles).id,
            Calibration(calibration.document, staircases[::-1], quantiles).id,
            Calibration(calibration.document, staircases, touched).id,
        }
        assert len(others) == 5
        assert calibration.id not in others

    def test_for_another_upscaler(self, calibration):
        """A copy under another name is another calibration with the same facts."""
        other = calibration.for_upscaler("other")
        assert other.id != calibration.id
        assert other.manifest.upscaler == other.head.upscaler == "other"
        assert calibration.for_upscaler("fake") is calibration
        assert file.load(file.dump(other)).id == other.id


def edited(parts, **fields):
    document = json.loads(parts["calibration.json"])
    document.update(fields)
    return {**parts, "calibration.json": json.dumps(document).encode()}


def with_manifest(parts, **fields):
    document = json.loads(parts["calibration.json"])
    document["manifest"].update(fields)
    return {**parts, "calibration.json": json.dumps(document).encode()}


class TestDamage:
    @pytest.mark.parametrize("rubbish", [b"", b"text", b"PK\x03\x04", b"\0" * 1000])
    def test_other_files(self, rubbish):
        """Not a calibration at all."""
        with pytest.raises(BadCalibration, match="not a calibration"):
            file.load(rubbish)

    def test_other_archives(self, parts):
        """Missing and additional members are refused."""
        for other in (
            {"readme.txt": b"hello"},
            {name: parts[name] for name in ("calibration.json", "pairs.npy")},
            {**parts, "evil.py": b"import os"},
        ):
            with pytest.raises(BadCalibration, match="not a calibration"):
                file.load(zipped(other))

    def test_other_versions_and_formats(self, parts):
        """A version that this program does not know is named."""
        with pytest.raises(BadCalibration, match="has version 2"):
            file.load(zipped(edited(parts, version=2)))
        with pytest.raises(BadCalibration, match="not a calibration"):
            file.load(zipped(edited(parts, format="something-else")))

    @pytest.mark.parametrize(
        "fields",
        [
            {"default_alpha": 0.2},
            {"name": "better"},
            {"upscaler": "other"},
            {"seed": 1},
            {"skipped": [{"name": "a", "reason": "b"}]},
        ],
    )
    def test_edits_of_the_document(self, parts, fields):
        """A changed word no longer fits the id."""
        with pytest.raises(BadCalibration, match="id does not match"):
            file.load(zipped(with_manifest(parts, **fields)))

    def test_edits_of_the_arrays(self, parts):
        """A changed array fails its checksum, and with a new checksum the id."""
        steps = np.load(io.BytesIO(parts["staircases.npy"]))
        steps[1] *= np.float32(0.5)
        better = {**parts, "staircases.npy": npy(steps)}
        with pytest.raises(BadCalibration, match=r"staircases\.npy fails its checksum"):
            file.load(zipped(better))
        with pytest.raises(BadCalibration, match="id does not match"):
            file.load(packed(better))

    @pytest.mark.parametrize(
        "fields",
        [
            {"pipeline": {}},
            {"pairs": "none"},
            {"default_alpha": -1},
            {"default_alpha": float("nan")},
            {"unknown": 1},
            {"created_at": "yesterday"},
        ],
    )
    def test_documents_that_are_none(self, parts, fields):
        """A document of a wrong form is refused in one line that says where."""
        with pytest.raises(BadCalibration) as caught:
            file.load(zipped(with_manifest(parts, **fields)))
        assert "\n" not in caught.value.detail

    @pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'"x"', b"[" * 100_000])
    def test_json_that_is_none(self, parts, text):
        """Broken or absurd JSON is damage."""
        with pytest.raises(BadCalibration):
            file.load(zipped({**parts, "calibration.json": text}))

    @pytest.mark.parametrize("sums", [None, [], {}, {"staircases.npy": 1}])
    def test_checksums_that_are_none(self, parts, sums):
        """A file without its checksums is damaged."""
        with pytest.raises(BadCalibration):
            file.load(zipped(edited(parts, sha256=sums)))

    @pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
    @pytest.mark.parametrize("name", ["staircases.npy", "pairs.npy"])
    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((2, 3), np.float64),
            np.zeros(6, np.float32),
            np.zeros((5, 5), np.float32),
            np.zeros((2, 0), np.float32),
            np.array([["a", "b"]]),
            np.full((12, 102), -1, np.float32),
            np.full((12, 102), 1e30, np.float32),
        ],
    )
    def test_arrays_that_contradict(self, parts, name, array):
        """Arrays of a wrong type or size are refused, with a checksum that fits or without."""
        with pytest.raises(BadCalibration):
            file.load(packed({**parts, name: npy(array)}))

    @pytest.mark.parametrize(
        ("row", "change"),
        [
            (0, np.flip),  # levels that fall
            (1, np.flip),  # errors that fall
            (1, np.negative),
            (1, lambda values: values * 1000),  # above the bound
            (0, lambda values: np.where(values == values[0], np.nan, values)),
            (1, lambda values: np.where(values == values[0], np.inf, values)),
        ],
    )
    def test_staircases_that_are_none(self, parts, row, change):
        """Steps that fall, are infinite or exceed the bound are refused whatever the checksum."""
        steps = np.load(io.BytesIO(parts["staircases.npy"]))
        steps[row] = change(steps[row])
        with pytest.raises(BadCalibration):
            file.load(packed({**parts, "staircases.npy": npy(steps)}))

    def test_pickles_are_never_opened(self, parts):
        """An array of objects, which would run code, is refused."""

        class Evil:
            def __reduce__(self):
                return (pytest.fail, ("code was run",))

        array = np.empty((2, 1), object)
        array[0, 0] = Evil()
        header = npy(np.zeros((2, 1), np.float32)).replace(b"'<f4'", b"'|O'").split(b"\n")[0]
        for evil in (npy_of_objects(array), pickle.dumps(Evil()), header + b"\n" + pickle.dumps(1)):
            with pytest.raises(BadCalibration):
                file.load(packed({**parts, "staircases.npy": evil}))

    def test_zip_bombs(self, parts, monkeypatch):
        """The declared sizes are summed before anything is unpacked."""
        bomb = zipped({**parts, "staircases.npy": b"\0" * (300 * 1024 * 1024)})
        assert len(bomb) < 1024 * 1024
        monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("unpacked"))
        with pytest.raises(BadCalibration, match="too large"):
            file.load(bomb)

    def test_a_bomb_that_lies_about_its_size(self, parts, data):
        """A size that is declared too small does not unpack more."""
        lying = bytearray(data)
        place = lying.rfind(b"PK\x01\x02")
        lying[place + 24 : place + 28] = (10).to_bytes(4, "little")
        with pytest.raises(BadCalibration):
            file.load(bytes(lying))

    def test_arrays_that_promise_more_than_they_hold(self, parts):
        """A header of a billion numbers without them is damage."""
        promise = npy(np.zeros((2, 3), np.float32)).replace(b"(2, 3)", b"(2, 9)")
        with pytest.raises(BadCalibration):
            file.load(packed({**parts, "staircases.npy": promise}))

    @settings(max_examples=60, deadline=None)
    @given(draw=st.data())
    def test_any_damage_is_noticed(self, data, draw):
        """One changed byte anywhere: the same calibration or an error of ours, nothing else."""
        damaged = bytearray(data)
        place = draw.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = draw.draw(st.integers(0, 255).filter(lambda b: b != data[place]))
        with suppress(BadCalibration):
            # A byte of the archive that carries no content, such as a date, may change.
            assert file.load(bytes(damaged)).id == file.load(data).id


def npy_of_objects(array):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=True)
    return out.getvalue()
