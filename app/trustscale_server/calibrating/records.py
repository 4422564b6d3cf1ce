"""What a calibration job has recorded of a pair: one kind of record for each state of a pair."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, TypeAlias

import msgspec

from trustscale_server.calibration.manifest import PairInfo
from trustscale_server.platform.errors import BadCalibration

PairState: TypeAlias = Literal["queued", "measured", "awaiting_label", "skipped"]


class MeasuredRecord(msgspec.Struct, frozen=True, tag="measured"):
    """The pair is measured; `pair` is packed by `packing.pack`."""

    state: ClassVar[PairState] = "measured"
    pair: bytes


class AwaitsLabel(msgspec.Struct, frozen=True, tag="awaits_label"):
    """People are to draw a label on the prediction of the pair."""

    state: ClassVar[PairState] = "awaiting_label"
    info: PairInfo
    prediction_sha256: str


class ToFitOn(msgspec.Struct, frozen=True, tag="to_fit_on"):
    """Among the blobs is what the fit of σ sees of the pair."""

    state: ClassVar[PairState] = "measured"


class AwaitsFit(msgspec.Struct, frozen=True, tag="awaits_fit"):
    """Among the blobs are the samples of the pair, to be measured with the σ that is fitted."""

    state: ClassVar[PairState] = "measured"


class Unusable(msgspec.Struct, frozen=True, tag="unusable"):
    """The files of the pair cannot be used."""

    state: ClassVar[PairState] = "skipped"
    name: str
    reason: str


PairRecord: TypeAlias = MeasuredRecord | AwaitsLabel | ToFitOn | AwaitsFit | Unusable


def dump_record(record: PairRecord) -> bytes:
    """Return a record as bytes, the checkpoint of its pair."""
    return msgspec.msgpack.encode(record, enc_hook=_json_of)


def load_record(data: bytes) -> PairRecord:
    """Return the record in a checkpoint; BadCalibration if it is damaged."""
    try:
        record: PairRecord = _RECORDS.decode(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise BadCalibration(f"A checkpoint is damaged: {error}.") from error
    return record


def _json_of(info: PairInfo) -> bytes:
    return info.model_dump_json().encode()


def _info_of(_: type[PairInfo], data: Any) -> PairInfo:
    return PairInfo.model_validate_json(data)


# Made once: msgspec may crash where two threads learn a type at the same time.
_RECORDS: Final = msgspec.msgpack.Decoder(PairRecord, dec_hook=_info_of)
