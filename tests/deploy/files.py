"""The deployment's files, and the programs that judge them where they are installed."""

import json
import os
import re
import shutil
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from harness.servers import ran
from tests.missing import not_here

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "chart"
DEFAULTS = "no-values"

# What an operator fills in; of no value anywhere.
SECRETS = {
    "REDIS_PASSWORD": "redispassword",
    "TRUSTSCALE_ADMIN_KEYS": "adminkey",
    "GRAFANA_ADMIN_PASSWORD": "grafanapassword",
}

_REFERENCE = re.compile(r"(?<!\$)\$\{(\w+)(?::?([-?+])([^}]*))?\}")


def document(path):
    return yaml.safe_load(path.read_text("utf-8"))


def compose():
    return document(ROOT / "docker-compose.yml")


def services():
    return compose()["services"]


def configured(monkeypatch):
    """Settings come from the file of the stack, with the password that it asks for."""
    monkeypatch.setenv("TRUSTSCALE_CONFIG", str(DEPLOY / "trustscale.toml"))
    monkeypatch.setenv("REDIS_PASSWORD", SECRETS["REDIS_PASSWORD"])


def references(value):
    """Names of the variables that compose fills into a value, at any depth."""
    return {found[1] for found in _REFERENCE.finditer(json.dumps(value))}


def filled(value, variables):
    """A value as compose would hand it to a container."""

    def text(match):
        name, how, other = match.groups()
        given = variables.get(name, "")
        if how == "+":
            return other if given else ""
        return given or (other if how == "-" else "")

    return _REFERENCE.sub(text, value).replace("$$", "$")


@cache
def rendered(use, *arguments):
    """What the chart makes of one of its files of values, or of none; not to be changed.

    The release is `trustscale` in the namespace `default`.
    """
    values = () if use == DEFAULTS else ("--values", CHART / "values" / f"{use}.yaml")
    text = run("helm", "template", "trustscale", CHART, *values, *arguments, split=True)
    return [found for found in yaml.safe_load_all(text) if found]


def run(program, *arguments, split=False, **variables):
    """What a program prints about a file that it accepts; `split`: without standard error."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = shutil.which(program, path=beside)
    if found is None:
        if os.environ.get("WITHOUT_JUDGES"):  # set by CI where no package has them
            pytest.skip(f"{program} cannot be installed")
        not_here(f"{program} is not installed")
    environment = {**os.environ, **variables}
    done = ran(found, *arguments, timeout=600, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout if split else done.stdout + done.stderr
