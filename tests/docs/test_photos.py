"""Where the photographs of docs/evidence.md come from can be repeated by anybody."""

import hashlib
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import photos
from harness.blocks import ROOT
from harness.factories import photo
from harness.servers import ran

HEAD = "name,photograph,left,top,right,bottom,scale,source,licence,author,sha256"
PATH = "/usr/share/backgrounds/a b.png"


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder with one photograph, and a table with a crop of it and one that is elsewhere."""
    picture = Image.fromarray(photo(1, 96, 64))
    path = tmp_path / "sources" / PATH.lstrip("/")
    path.parent.mkdir(parents=True)
    picture.save(path)
    half = picture.resize((32, 48), Image.Resampling.LANCZOS).crop((4, 8, 28, 40))
    digest = hashlib.sha256(half.tobytes()).hexdigest()[:16]
    table = tmp_path / "photos.csv"
    rows = [
        f"0001,P1,4,8,28,40,0.5,deb:a_1 {PATH},CC0,A,{digest}",
        "0002,P2,0,0,8,8,1.0,github:owner/name@1234567 b/c.png,CC0,B,0",
    ]
    table.write_text("\n".join([HEAD, *rows]))
    monkeypatch.setattr(photos, "TABLE", table)
    return tmp_path / "sources", np.asarray(half)


def test_what_is_there_is_made(sources, tmp_path, capsys):
    """Pixel by pixel as the table says, with its scene; what is elsewhere is counted."""
    folder, wanted = sources
    assert photos.main([str(tmp_path / "out"), "--sources", str(folder)]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "0001.png")), wanted)
    assert (tmp_path / "out" / "manifest.csv").read_text() == "name,scene\n0001,P1\n"
    assert capsys.readouterr().out.startswith("1 of 2 crops")
    elsewhere = [crop.file(folder) for crop in photos.crops()][1]
    assert elsewhere == folder / "owner" / "name" / "b" / "c.png"


def test_another_photograph_is_refused(sources, tmp_path, capsys):
    """A file of the same name with other pixels makes no crop; an empty folder none either."""
    folder, _ = sources
    Image.fromarray(photo(2, 96, 64)).save(folder / PATH.lstrip("/"))
    assert photos.main([str(tmp_path / "out"), "--sources", str(folder)]) == 1
    assert "has other pixels than the table's" in capsys.readouterr().err
    assert photos.main([str(tmp_path / "out"), "--sources", str(tmp_path / "out")]) == 1


def test_the_table():
    """A hundred crops of 512×512 with a source, a licence and an author each, 23 of Debian."""
    every = list(photos.crops())
    assert len({crop.name for crop in every}) == len(every) == 100
    assert sum(crop.source.startswith("deb:") for crop in every) == 23
    for crop in every:
        assert (crop.box[2] - crop.box[0], crop.box[3] - crop.box[1]) == (512, 512)
        assert len(crop.digest) == 16
    lines = photos.TABLE.read_text("utf-8").splitlines()
    assert all(",," not in line for line in lines)


@pytest.mark.slow
def test_without_photographs():
    """A benchmark says in one line where they come from."""
    done = ran(sys.executable, "-m", "benchmarks.risk", "no/photos", cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("benchmarks/photos.py makes a part of photos/test")
