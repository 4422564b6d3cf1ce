"""The examples of docs/integrations.md, each in its host, against a real gateway."""

import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from mcp import Client, StdioServerParameters
from PIL import ExifTags, Image

from examples.integrations import mcp_server
from harness import factories
from harness.blocks import ROOT
from harness.factories import encoded, pictures
from harness.fakes import FakeUpscaler
from harness.gateway import gateway, pixels
from harness.servers import ran
from tests.images.test_formats import GEO
from tests.live import serving
from tests.missing import needed, not_here
from tests.reading import calibration_for_text, pretend, upload
from tests.upscalers.remote.real import environment
from trustscale import Trustscale
from trustscale_server.images.encoding.encode import Attached, picture
from trustscale_server.images.metadata import Metadata

PLACES = ROOT / "examples" / "integrations"


@pytest.mark.slow
class TestMcp:
    async def test_an_agent(self, url, tmp_path):
        (tmp_path / "sign.png").write_bytes(upload())
        pictures(tmp_path, "../secret.png", side=24)
        command = StdioServerParameters(
            command=sys.executable,
            args=[str(PLACES / "mcp_server.py"), str(tmp_path)],
            env={"TRUSTSCALE_URL": url, "PYTHONPATH": os.environ["PYTHONPATH"]},
        )
        async with Client(command) as agent:
            (tool,) = (await agent.list_tools()).tools
            call = {"path": "sign.png", "alpha": 0.12}
            said, *whole = (await agent.call_tool(tool.name, call)).content
            part = {**call, "crop": (2, 3, 12, 20)}
            _, *crops = (await agent.call_tool(tool.name, part)).content
            refused = [
                await agent.call_tool(tool.name, {"path": "sign.png", **asked})
                for asked in ({"path": "../secret.png"}, {"crop": (0, 0, 25, 9)}, {"to_read": True})
            ]
            (tmp_path / "broken.png").write_bytes(b"?")
            wrong = {"path": "broken.png", "crop": (9, 0, 9, 9)}
            refused.append(await agent.call_tool(tool.name, wrong))
        assert tool.name == "upscale_with_trust"
        assert "faces can be invented anywhere" in " ".join(tool.description.split())
        large, sure = (pixels(b64decode(one.data)) for one in whole)
        doubtful = (sure != large).any(axis=2)
        assert (sure[doubtful] == 128).all()
        share = float(
            re.search(r"([\d.]+)% of the whole picture can be relied on for colour", said.text)[1]
        )
        assert share == pytest.approx(100 * (1 - doubtful.mean()), abs=0.06)
        for crop, complete in zip(crops, (large, sure), strict=True):
            np.testing.assert_array_equal(pixels(b64decode(crop.data)), complete[6:40, 4:24])
        assert "over the draw of the 30 calibration" in said.text
        assert "do not report text, numbers or faces" in said.text
        assert all(one.is_error for one in refused)
        texts = [one.content[0].text for one in refused]
        assert "secret.png is no file in" in texts[0]
        assert "is not inside the picture, 24×24" in texts[1]
        assert "cannot say which words are right" in texts[2]
        assert "has no calibration for text" in texts[2]
        # Of a part that no picture has nothing is sent, whatever the picture.
        assert texts[3].endswith("The crop (9, 0, 9, 9) is not inside the picture.")

    async def test_nothing_is_sent_for_a_part_that_is_not_there(self, tmp_path):
        """The file is looked at first, as EXIF turns it: a call may cost money."""
        picture = Image.new("RGB", (24, 10))
        exif = picture.getexif()
        exif[ExifTags.Base.Orientation] = 6
        picture.save(tmp_path / "turned.jpg", exif=exif)
        nowhere = Trustscale("http://127.0.0.1:9")
        async with Client(mcp_server.server(tmp_path, nowhere)) as agent:
            said = [
                (await agent.call_tool("upscale_with_trust", {"path": "turned.jpg", "crop": crop}))
                for crop in ((0, 0, 11, 5), (0, 0, 10, 25), (0, 0, 10, 24))
            ]
        texts = [one.content[0].text for one in said]
        assert all("is not inside the picture, 10×24" in text for text in texts[:2])
        assert "inside" not in texts[2]  # this one would have been sent

    async def test_without_a_promise(self, url, tmp_path):
        """No share is called trusted, and no second picture looks as if something were."""
        pictures(tmp_path, "sign.png", side=24)
        with Trustscale(url) as service:
            async with Client(mcp_server.server(tmp_path, service)) as agent:
                call = {"path": "sign.png", "alpha": 0.001}  # too few scenes for this
                said, *shown = (await agent.call_tool("upscale_with_trust", call)).content
        assert len(shown) == 1
        assert said.text.startswith("Nothing is promised of this picture")
        assert "can be relied on" not in said.text
        assert "painted grey" not in said.text

    async def test_words(self, tmp_path, monkeypatch):
        """Where a calibration is for text, who wants to read gets words that can be believed."""
        pretend(monkeypatch)
        (tmp_path / "sign.png").write_bytes(upload())
        upscaler = FakeUpscaler()
        calibration = await calibration_for_text(upscaler)
        with (
            serving(gateway(tmp_path / "service", upscaler, calibrations=[calibration])) as address,
            Trustscale(f"http://{address}") as service,
        ):
            async with Client(mcp_server.server(tmp_path, service)) as agent:
                call = {"path": "sign.png", "to_read": True, "alpha": 0.04}
                said, *_ = (await agent.call_tool("upscale_with_trust", call)).content
                part = {**call, "crop": (0, 0, 21, 7)}
                of_part, *_ = (await agent.call_tool("upscale_with_trust", part)).content
        assert "Words: Exit 42.\nNot to be believed: 1 more." in said.text
        assert "Words: Exit.\nNot to be believed: 0 more." in of_part.text
        assert "Of the words called right at most 4 % are wrong" in said.text
        assert "Zg" not in said.text


@pytest.mark.slow
class TestGitHubAction:
    @pytest.fixture
    def run(self, url, tmp_path, monkeypatch):
        """Runs the checking step of action.yml as the runner does; the installing step needs pip.

        In the working tree are a pull request's changes: a picture, and what is none.
        """
        repository = tmp_path / "repository"
        pictures(repository, "old.png", "kept.png", side=24)
        monkeypatch.chdir(repository)
        _git("init", "--quiet")
        _commit("before")
        event = {"pull_request": {"base": {"sha": _git("rev-parse", "HEAD").strip()}}}
        (repository / "new, 100%.png").write_bytes(encoded(factories.upload(2001)))
        (repository / "notes.txt").write_text("no picture")
        (repository / "old.png").unlink()
        _commit("after")
        files = {name: tmp_path / name for name in ("event", "output", "summary")}
        files["event"].write_text(json.dumps(event))

        def run(**given):
            action = yaml.safe_load((PLACES / "github_action/action.yml").read_text("utf-8"))
            inputs = {name: one.get("default") for name, one in action["inputs"].items()} | given
            install, check = action["runs"]["steps"]
            assert (PLACES / "github_action/../../../client/pyproject.toml").exists()
            assert "$GITHUB_ACTION_PATH/../../../client" in install["run"]
            env = {
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT / "client"),
                "GITHUB_ACTION_PATH": str(PLACES / "github_action"),
                "GITHUB_EVENT_PATH": str(files["event"]),
                "GITHUB_OUTPUT": str(files["output"]),
                "GITHUB_STEP_SUMMARY": str(files["summary"]),
            }
            for name, value in check["env"].items():
                (known,) = re.fullmatch(r"\$\{\{ inputs\.(\w+) \}\}", value).groups()
                env[name] = inputs[known]
            shell = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")
            done = ran(*shell, check["run"], env=env)
            return done, files["output"].read_text("utf-8"), files["summary"].read_text("utf-8")

        run.repository = repository
        return run

    def test_a_pull_request(self, run, url):
        """One sentence sums up all pictures, by area; an animation is no failure."""
        pictures(run.repository, "wide.png", side=48, first=6)
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
        frames[0].save(run.repository / "film.gif", save_all=True, append_images=frames[1:])
        _commit("more")
        done, output, summary = run(url=url, alpha="0.12", least="0.01")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert "`film.gif` | skipped: an animation |" in summary
        assert any(words in summary for words in ("In 9 of 10", "On average", "No promise"))
        said = re.match(r"2 checked, 0 failed, 1 skipped. Once enlarged, ([\d.]+)%", summary)
        shares = dict(re.findall(r"\| `(new|wide).*\.png` \| ([\d.]+)% ✓ \|", summary))
        mean = (float(shares["new"]) + 4 * float(shares["wide"])) / 5
        assert float(said[1]) == pytest.approx(mean, abs=0.1)
        told = dict(line.split("=") for line in output.splitlines())
        assert told.pop("checked") == "2"
        expected = {"trusted": mean / 100, "smallest": min(map(float, shares.values())) / 100}
        assert {k: float(v) for k, v in told.items()} == pytest.approx(expected, abs=1e-3)
        with Image.open(run.repository / "trusted-pictures/new, 100%.png") as marked:
            assert marked.size == (48, 48)

    def test_it_fails(self, run, url):
        """Where too little is trusted, and where a picture cannot be checked."""
        (run.repository / "bad.png").write_bytes(b"no picture")
        _commit("bad")
        done, _, summary = run(url=url, alpha="0.12", least="1")
        assert done.returncode == 1
        assert "::error file=new%2C 100%25.png::Once enlarged, " in done.stdout
        assert "✗" in summary
        assert "::error file=bad.png::Not checked: " in done.stdout
        assert "`bad.png` | not checked: " in summary


def _commit(name):
    _git("add", "--all")
    _git("commit", "--quiet", "-m", name)


def _git(*command):
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org", *command)
    return subprocess.run(git, check=True, capture_output=True, text=True).stdout


@pytest.mark.hosts
def test_qgis(url, tmp_path):
    """The layer keeps its place, with finer pixels, and what is not trusted is masked."""
    if shutil.which("qgis_process") is None:
        not_here("QGIS is not installed (Debian: qgis)")
    if ran("/usr/bin/python3", "-c", "import httpx").returncode:
        not_here("the Python of QGIS has no httpx (Debian: python3-httpx)")
    scripts = tmp_path / ".local/share/QGIS/QGIS3/profiles/default/processing/scripts"
    scripts.mkdir(parents=True)
    shutil.copy(PLACES / "trustscale_qgis.py", scripts)
    (tmp_path / "trustscale").symlink_to(ROOT / "client/trustscale")
    source, target = tmp_path / "field.tif", tmp_path / "large.tif"
    pictures(tmp_path, "field.png", side=24)
    pixels = np.asarray(Image.open(tmp_path / "field.png"))
    source.write_bytes(picture(pixels, "tiff", attached=Attached(metadata=Metadata(geo=GEO))))
    env = {"HOME": str(tmp_path), "PYTHONPATH": str(tmp_path), "QT_QPA_PLATFORM": "offscreen"}
    given = {"INPUT": source, "URL": url, "ALPHA": 0.12, "OUTPUT": target}
    done = ran(
        *("qgis_process", "--json", "run", "script:upscalewithtrust"),
        *("--", *(f"{name}={value}" for name, value in given.items())),
        env={"PATH": os.environ["PATH"], **env},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout)["results"]
    with rasterio.open(source) as small, rasterio.open(target) as large:
        assert large.shape == (48, 48)
        assert large.bounds == small.bounds
        assert large.crs == small.crs
        trusted = large.dataset_mask() > 0
    assert trusted.mean() == pytest.approx(results["TRUSTED"])
    assert 0 < trusted.mean() < 1
    assert "over the draw of the 30 calibration" in results["STATEMENT"]


@pytest.fixture
def display():
    """An X server's, which napari needs for OpenGL."""
    if shutil.which("Xvfb") is None:
        not_here("an X server is not installed (Debian: xvfb)")
    there, told = os.pipe()
    command = ["Xvfb", "-displayfd", str(told), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[told], stderr=subprocess.DEVNULL) as server:
        os.close(told)
        with os.fdopen(there) as number:
            yield f":{number.readline().strip()}"
        server.terminate()


@pytest.mark.hosts
def test_napari(url, tmp_path, display):
    """Installed from its folder, the widget adds three layers that lie on the one that was sent."""
    with needed():
        python = environment("napari") / "python"
    subprocess.run(
        [
            *(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--target", tmp_path / "site", PLACES / "napari", ROOT / "client"),
        ],
        check=True,
    )
    env = {"HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / "site"), "DISPLAY": display}
    session = Path(__file__).with_name("napari_session.py")
    done = ran(python, session, url, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr
    enlarged, guessed, levels = json.loads(done.stdout.splitlines()[-1])
    names = ("sample: enlarged", "sample: not trusted", "sample: trust level")
    for one, name in zip((enlarged, guessed, levels), names, strict=True):
        assert one["name"] == name
        assert one["shape"] == [48, 48]
        assert one["scale"] == [1.0, 1.5]
        # The middles of the outer pixels; what was sent reaches from 9 to 57 and 18.5 to 90.5.
        assert one["extent"] == [[9.5, 19.25], [56.5, 89.75]]
    assert 0 < guessed["mean"] < 1
    assert "pictures like those measured" in enlarged["sentence"]
