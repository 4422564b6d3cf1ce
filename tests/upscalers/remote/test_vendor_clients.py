"""The fakes of hosted APIs are judged by the vendors' own clients."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.live import serving
from tests.missing import not_here
from tests.servers import START_TIMEOUT_S, ServerMissing
from tests.upscalers.remote.hosted import State, hosted
from tests.upscalers.remote.pictures import TOKEN, source
from tests.upscalers.remote.real import APPS, environment

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture(scope="module")
def verdict(tmp_path_factory):
    """What the clients said, and what the fakes saw."""
    try:
        python = environment("clients") / "python"
    except ServerMissing as missing:
        not_here(missing)
    png = tmp_path_factory.mktemp("clients") / "in.png"
    png.write_bytes(source().png)
    state = State()
    with serving(hosted(state)) as address:
        state.base = f"http://{address}"
        run = subprocess.run(
            [str(python), str(APPS / "clients.py"), state.base, TOKEN, str(png)],
            capture_output=True,
            text=True,
            check=False,
            timeout=START_TIMEOUT_S,
        )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1]), state


def test_replicate(verdict):
    """Replicate's client creates, polls, uploads and cancels, and reads errors."""
    said, state = verdict
    assert said["replicate_first"] == "starting"
    assert said["replicate"] == ["succeeded", "data:image/png;base64,"]
    assert said["replicate_model"] == "f" * 64
    assert said["replicate_file"]
    assert said["replicate_error"] == [401, "Unauthenticated"]
    assert len(state.cancelled) == 1


def test_openai(verdict):
    """OpenAI's client reads several images and the error code of a wrong key."""
    said, _ = verdict
    assert said["openai"] == [2, "iVBORw0KGg"]
    assert said["openai_error"] == "invalid_api_key"


def test_hugging_face(verdict):
    """Hugging Face's client reads the image."""
    said, _ = verdict
    assert said["hf"] == [96, 96]
