"""`trustscale verify`: what can be told of files."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from harness.credentials import new_chain
from trustscale_server.proof.marked import write_marked
from trustscale_server.proof.marks import Mark

MARK = Mark("picture", "span-x4", "ab", 4, (50, 40), (0, 0), alpha=0.05, share=0.5, promise="Yes.")
PIXELS = np.arange(160 * 200 * 3, dtype=np.uint32).reshape(160, 200, 3).astype(np.uint8)


def write(path, form="png", pixels=PIXELS):
    with path.open("wb") as out:
        write_marked(out, pixels, form, MARK)
    return path


def test_a_file_of_ours(tmp_path, run):
    """All that can be told, in sentences; as JSON on request."""
    done = run("verify", path := write(tmp_path / "a.png"))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"{path}: A picture enlarged ×4 from 50 × 40 pixels by span-x4.",
        "  50\u00a0% of it can be relied on for colour, at an accepted error of 0.05.",
        "  Its promise: Yes.",
        "  Its pixels have not changed since it was marked.",
        "  Nobody signed it: anybody can write such a mark.",
    ]
    told = run("verify", path, "--json").json
    assert (told["file"], told["pixels"], told["alpha"]) == (str(path), "unchanged", 0.05)


def test_files_that_do_not_hold(tmp_path, run):
    """The exit code is 1 for a changed file and for one without a mark; every file has its line."""
    plain = tmp_path / "plain.jpg"
    Image.fromarray(PIXELS).save(plain)
    changed = tmp_path / "changed.jpeg"
    with Image.open(write(tmp_path / "b.jpeg", "jpeg")) as image:
        image.transpose(Image.Transpose.ROTATE_180).save(changed, xmp=image.info["xmp"])
    (tmp_path / "empty.png").touch()
    for path in (plain, changed):
        assert run("verify", path).code == 1
    found = run(
        "verify", write(tmp_path / "a.webp", "webp"), plain, tmp_path / "empty.png", changed
    )
    assert found.code == 1
    firsts = [line.partition(": ")[2] for line in found.out.splitlines() if line[0] != " "]
    assert [first.split(" ")[0] for first in firsts] == ["A", "No", "A"]
    assert found.err.startswith(f"trustscale: {tmp_path / 'empty.png'}: The file is empty.")


def test_standard_input(tmp_path, run, monkeypatch):
    data = write(tmp_path / "a.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run("verify", "-").code == 0


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), (b"", "is empty"), (b"%PDF", "a PDF document")]
)
def test_what_is_no_picture(tmp_path, run, content, words):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    run("verify", path).check_error(1, words)


def test_a_signer(tmp_path, run):
    """A certificate that is none is a wrong setting; another signer's changes nothing."""
    path = write(tmp_path / "a.png")
    (certificate := tmp_path / "signer.pem").write_text("none")
    run("verify", path, "--signer", certificate).check_error(2, "PEM")
    certificate.write_text(new_chain()[0])
    assert run("verify", path, "--signer", certificate).code == 0
