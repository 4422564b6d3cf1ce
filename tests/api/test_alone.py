"""Who runs the jobs of a queue in memory runs them alone."""

from __future__ import annotations

import pytest

from app.assembly import alone
from app.errors import ConfigError
from app.settings import Settings


def test_a_data_folder_has_one_gateway(tmp_path):
    """A second one on the same folder is refused while the first one runs, and not afterwards."""
    settings = Settings(data_dir=tmp_path / "data")
    with alone(settings), pytest.raises(ConfigError, match="Another gateway"), alone(settings):
        pass
    with alone(settings):
        pass


@pytest.mark.parametrize(
    "more", [{"run_jobs": False}, {"queue": "redis://127.0.0.1/0", "run_jobs": True}]
)
def test_others_may_be_many(tmp_path, more):
    """Gateways that run no jobs of a queue in memory share a folder."""
    settings = Settings(data_dir=tmp_path, **more)
    with alone(settings), alone(settings):
        pass


def test_a_shared_store(tmp_path):
    """Jobs of a store that others see are not run from a queue that they do not see."""
    settings = Settings(data_dir=tmp_path, store="redis://:secret@127.0.0.1/0")
    with pytest.raises(ConfigError, match="TRUSTSCALE_QUEUE") as caught, alone(settings):
        pass
    assert "secret" not in caught.value.detail
