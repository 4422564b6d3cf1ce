"""The file of a calibration, for export, import and the store.

It is a zip archive, readable with standard tools:

- `calibration.json`: format, version, id, the manifest, and the SHA-256 of the other members;
- `loss_curves.npy`: [2, N], the levels and errors of the spots of all pairs one after the other;
- `lengths.npy`: [1, m], the number of breakpoints of each spot;
- `pairs.npy`: [n, 1 + 101 + d], per pair the number of its spots, the quantiles of σ, and the
  numbers that describe X;
- `added.npy`: [2 n, 65], what was added to each pair and what of it is invented
  (`conformal/added.py`); older calibrations have none.

Floats have 8 significant bits, so they are the upper halves of float32 (an error that counts in
full is rounded up, and cut at the bound on reading). Of an array of 16 bits [a, b] a member holds
uint8 [a, 2, b]: of each row the differences, modulo 2¹⁶, byte by byte. They deflate well.

The id is a digest of the content; checked on reading, it detects damage and edits.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.manifest import Manifest
from trustscale_server.calibration.pair_arrays import SIGMA_QUANTILES, PairArrays
from trustscale_server.conformal import fidelity
from trustscale_server.conformal.added import STEPS
from trustscale_server.conformal.loss_curve import LossCurves, coarse_up
from trustscale_server.pixels.filters import largest_float32
from trustscale_server.pixels.npy import read_header
from trustscale_server.platform.errors import BadCalibration, reason_of

_FORMAT = "trustscale-calibration"
VERSION = 3
MEDIA_TYPE = "application/vnd.trustscale.calibration+zip"
SUFFIX = ".calibration"

_MANIFEST = "calibration.json"
_CURVES, _LENGTHS, _PAIRS = _ARRAYS = ("loss_curves.npy", "lengths.npy", "pairs.npy")
_ADDED = "added.npy"
_KEPT = 1 + len(SIGMA_QUANTILES)  # numbers of each pair besides those that describe X

# A calibration of 2,000 images takes under 20 MB; ten times that is a mistake or an attack.
_MAX_BYTES = 256 * 1024 * 1024


def dump(calibration: Calibration) -> bytes:
    """Return the file of a calibration."""
    pairs, curves = calibration.arrays, calibration.arrays.loss_curves
    errors = coarse_up(curves.errors)
    arrays = {
        _CURVES: np.stack([_halves(curves.levels), _halves(errors)]),
        _LENGTHS: curves.lengths.astype(np.uint16)[None],
        _PAIRS: np.column_stack(
            [
                pairs.spots.astype(np.uint16),
                _halves(pairs.sigma_quantiles),
                *([] if pairs.described is None else [_halves(pairs.described)]),
            ]
        ),
    }
    if pairs.marked is not None:
        arrays[_ADDED] = pairs.marked.reshape(2 * len(pairs.spots), -1)
    members = {name: _npy(array) for name, array in arrays.items()}
    document = {
        "format": _FORMAT,
        "version": VERSION,
        "id": calibration.id,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
        "manifest": calibration.document,
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry(_MANIFEST), json.dumps(document, indent=1))
        for name, data in members.items():
            archive.writestr(_entry(name), data)
    return out.getvalue()


@contextmanager
def _damage_refused() -> Iterator[None]:
    """Raise BadCalibration for any error of a parser."""
    try:
        yield
    except BadCalibration:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadCalibration(
            f"The calibration file is invalid: {where[:200]}: {first['msg'][:200]}."
        ) from error
    except Exception as error:  # zip, JSON and array parsers raise anything on damaged input
        raise BadCalibration(f"The calibration file is damaged: {reason_of(error)}.") from error


@_damage_refused()
def load(data: bytes) -> Calibration:
    """Return the calibration in a file.

    Raises:
        BadCalibration: damaged, edited, of another format or version, or inconsistent.
    """
    members = _members(data)
    document = _document(members)
    manifest = Manifest.model_validate(document["manifest"])
    if not manifest.pairs:
        raise BadCalibration("The calibration file holds no pairs.")
    curves, lengths, pairs = (_array(members[name]) for name in _ARRAYS)
    rows = len(curves), len(lengths), len(pairs)
    if rows != (2, 1, len(manifest.pairs)) or pairs.shape[1] < _KEPT:
        raise _contradiction("array sizes do not match")
    spots = pairs[:, 0].astype(np.int64)
    if (spots < 1).any() or spots.sum() != lengths.size:
        raise _contradiction("array sizes do not match")
    limit = largest_float32(fidelity.bound(manifest.pipeline.fidelity))
    # Only the last error of a curve is above the bound, by rounding.
    errors = np.minimum(_floats(curves[1]), limit)
    loss_curves = LossCurves(_floats(curves[0]), errors, lengths[0].astype(np.int64))
    loss_curves.raise_if_inconsistent()
    arrays = PairArrays(
        loss_curves,
        spots,
        _floats(pairs[:, 1:_KEPT]),
        _marked(members.get(_ADDED), len(spots)),
        _floats(pairs[:, _KEPT:]) if pairs.shape[1] > _KEPT else None,
    )
    calibration = Calibration(document["manifest"], arrays)
    vars(calibration)["manifest"] = manifest  # checking it is as slow as parsing it
    if calibration.id != document.get("id"):
        raise BadCalibration("The calibration file was changed: its id does not match its content.")
    return calibration


@_damage_refused()
def identity(file: IO[bytes]) -> tuple[str, str]:
    """Return a file's calibration id and upscaler fingerprint; nothing else is read.

    Raises BadCalibration; nothing is checked.
    """
    with zipfile.ZipFile(file) as archive, archive.open(_MANIFEST) as manifest:
        head = b""
        while chunk := manifest.read(1 << 14):  # both come before the pairs
            head += chunk
            if match := re.search(rb'"id": "([^"]+)".*?"fingerprint": "([^"]+)"', head, re.DOTALL):
                return match[1].decode(), match[2].decode()
    raise BadCalibration("The calibration file names no fingerprint.")


@_damage_refused()
def unchecked(data: bytes) -> tuple[Any, Any]:
    """Return the version and the manifest of a file of any version, in any form.

    Raises BadCalibration; nothing is checked.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        document = json.loads(archive.read(_MANIFEST))
        return document["version"], document["manifest"]


def _contradiction(what: str) -> BadCalibration:
    return BadCalibration(f"The calibration file contradicts itself: {what}.")


def _document(members: Mapping[str, bytes]) -> dict[str, Any]:
    """The JSON document, once format, version and the digests of the other members are checked."""
    document: dict[str, Any] = json.loads(members[_MANIFEST])
    if document.get("format") != _FORMAT:
        raise BadCalibration("This is not a calibration file.")
    if document.get("version") != VERSION:
        raise BadCalibration(
            f"The calibration file has version {str(document.get('version'))[:20]}, and this "
            f"release reads version {VERSION}: calibrate again."
        )
    for name in members.keys() - {_MANIFEST}:
        if hashlib.sha256(members[name]).hexdigest() != document["sha256"].get(name):
            raise BadCalibration(f"The calibration file is damaged: {name} fails its checksum.")
    return document


def _members(data: bytes) -> dict[str, bytes]:
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise BadCalibration("This is not a calibration file.")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if {info.filename for info in archive.infolist()} - {_ADDED} != {_MANIFEST, *_ARRAYS}:
            raise BadCalibration("This is not a calibration file.")
        if sum(info.file_size for info in archive.infolist()) > _MAX_BYTES:
            raise BadCalibration("The calibration file is too large.")
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _marked(data: bytes | None, pairs: int) -> NDArray[np.uint16] | None:
    """A and I of the pairs, uint16 [n, 2, 65], which rise, I ≤ A; None: the file has none."""
    if data is None:
        return None
    rows = _array(data)
    if rows.shape != (2 * pairs, STEPS + 1):
        raise _contradiction("array sizes do not match")
    marked = rows.reshape(pairs, 2, STEPS + 1)
    if (np.diff(rows.astype(np.int32), axis=1) < 0).any() or (marked[:, 1] > marked[:, 0]).any():
        raise _contradiction("what is invented was added")
    return marked


def _halves(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of numbers with 8 significant bits."""
    return np.asarray((np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16), np.uint16)


def _floats(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _entry(name: str) -> zipfile.ZipInfo:
    """A member with a fixed date: equal calibrations are equal files."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _npy(array: NDArray[np.uint16]) -> bytes:
    """A member of uint16 [a, b]."""
    steps = np.diff(array, axis=1, prepend=np.uint16(0)).astype("<u2")
    out = io.BytesIO()
    planes = np.ascontiguousarray(steps[..., np.newaxis].view(np.uint8).swapaxes(1, 2))
    np.save(out, planes, allow_pickle=False)
    return out.getvalue()


def _array(data: bytes) -> NDArray[np.uint16]:
    """A member as uint16 [a, b].

    numpy would allocate what the header says before it reads the bytes.
    """
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise _contradiction("an array has a wrong form")
    shape, is_fortran, dtype = read_header(stream)
    if dtype != np.uint8 or len(shape) != 3 or shape[1] != 2:
        raise _contradiction("an array has a wrong type")
    if min(shape) < 0 or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise _contradiction("an array has a wrong size")
    flat = np.frombuffer(data, dtype, offset=stream.tell())
    planes = flat.reshape(shape, order="F" if is_fortran else "C")
    steps = np.ascontiguousarray(planes.swapaxes(1, 2)).view("<u2")[..., 0]
    return steps.cumsum(axis=1, dtype=np.uint16)
