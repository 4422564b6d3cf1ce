"""Where the stand-ins for official images take Debian's packages from."""

import os

import pytest

from harness.blocks import ROOT
from harness.servers import ran


@pytest.fixture
def base(tmp_path):
    """Runs base.sh up to debootstrap, which stops it, and returns what that was asked and said."""
    programs = {
        "apt-get": 'printf "file:/usr/share/own/\\n$SOURCES"',
        "buildah": "true",
        "debootstrap": f'echo "$@" > {tmp_path}/asked; exit 1',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    def run(**env):
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = ran("sh", ROOT / "deploy/images/base.sh", env={"PATH": path, "SOURCES": "", **env})
        assert done.returncode == 1
        asked = tmp_path / "asked"
        return (asked.read_text().split()[-1] if asked.exists() else None), done.stderr

    return run


def test_the_mirror_of_the_host(base):
    """It is the host's own; a named one is preferred."""
    sources = "http://mirror.example/debian-security/\\nhttp://mirror.example/debian/\\n"
    assert base(SOURCES=sources)[0] == "http://mirror.example/debian/"
    other = "http://other.example/debian"
    assert base(SOURCES=sources, DEBIAN_MIRROR=other)[0] == other


def test_without_a_source_of_debian(base):
    """What to set is said in one line."""
    asked, said = base(SOURCES="http://archive.example/ubuntu/\\n")
    assert asked is None
    assert said.startswith("base.sh: apt has no source of Debian here; set DEBIAN_MIRROR")
    assert len(said.splitlines()) == 1
