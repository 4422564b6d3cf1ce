"""One stack for all tests of this folder, started from `.env.example` as a new user would."""

import secrets
from pathlib import Path

import pytest

from tests.missing import needed
from tests.stack.client import Client
from tests.stack.engine import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """The core of the stack, healthy; at the end all of it is removed."""
    with needed():
        found = Stack(tmp_path_factory.mktemp("stack"))
    found.configure(
        REDIS_PASSWORD=secrets.token_hex(16), TRUSTSCALE_ADMIN_KEYS=secrets.token_hex(32)
    )
    try:
        found.up()
        yield found
    finally:
        _keep_logs(found)
        found.down()


@pytest.fixture
def client(stack):
    with Client(stack) as found:
        yield found


def _keep_logs(stack):
    folder = Path("test-artefacts") / "stack"
    folder.mkdir(parents=True, exist_ok=True)
    for name in stack.containers(every=True):
        (folder / f"{name}.log").write_text(stack.call("logs", name), "utf-8")
