"""Versions of labels, and which of them a calibration is made with."""

from __future__ import annotations

import pytest

from app.calibration import labels
from app.errors import NotFound
from app.stores.files import FileSpool


async def test_what_is_settled_stays(tmp_path):
    """A version that comes after the labels were settled is not the one that is used."""
    spool = FileSpool(tmp_path / "spool")
    await labels.save(spool, "job", "a", b"1", seen=None)
    await labels.save(spool, "job", "a", b"2", seen=None)
    assert await labels.frozen(spool, "job") == {"a": 2}  # the newest, while nothing is settled
    await labels.freeze(spool, "job")
    await labels.save(spool, "job", "a", b"3", seen=None)
    await labels.save(spool, "job", "b", b"1", seen=None)
    settled = await labels.frozen(spool, "job")
    assert settled == {"a": 2}
    assert await labels.used(spool, "job", "a", settled) == b"2"
    with pytest.raises(NotFound):
        await labels.used(spool, "job", "b", settled)
    assert await labels.read(spool, "job", "a") == (b"3", 3)
