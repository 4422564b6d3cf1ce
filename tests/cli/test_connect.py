"""`trustscale connect`."""

import tomllib
from importlib import resources

from app.images.degrade import USUAL
from app.upscalers.shipped import SHIPPED
from tests.live import serving
from tests.upscalers.test_connect import answering


def test_connect(run, place):
    """What a call is for is said before it is made; the entry is written once, and can be read."""
    file = place / "own.toml"
    with serving(answering(prompt={"type": "string"})) as address:
        url = f"http://{address}"
        asked = run("connect", url)
        assert (asked.code, asked.out) == (2, "")
        assert "--set request.json.prompt=…" in asked.err
        given = ("--set", "request.json.prompt=sharp", "--name", "mine", "--write", file)
        declined = run("connect", url, *given)
        assert f"takes {100 * len(USUAL.variants()):,} calls" in declined.err
        assert not file.exists()
        outcome = run("connect", url, *given, "--yes")
        assert outcome.code == 0, outcome.err
        assert "It works: ×2" in outcome.err
        (told,) = tomllib.loads(outcome.out)["upscalers"]
        assert told["request"]["json"]["prompt"] == "sharp"
        assert tomllib.loads(file.read_text("utf-8"))["upscalers"][len(SHIPPED) :] == [told]
        again = run("connect", url, *given, "--yes")
        assert again.code == 2
        assert "has an upscaler mine" in again.err
    model = resources.files("app.upscalers").joinpath("models", SHIPPED["span-x4"].file)
    outcome = run("connect", model, "--yes", "--json")
    assert (outcome.json["entry"]["model"], outcome.json["scale"]) == (str(model), 4)
    missing = run("connect", "model.onnx", "--yes")
    assert (missing.code, missing.out) == (1, "")
    assert "model.onnx: No such file" in missing.err
    run("connect", url, "--token-env", "NO_SUCH").check_error(2, "NO_SUCH is not set")
