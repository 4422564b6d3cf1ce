"""The command blocks of README and docs, as they stand in the Markdown."""

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>\w+)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)


class Block(NamedTuple):
    where: str
    kind: str
    text: str

    @property
    def commands(self):
        """The shell commands: all lines, or those behind a prompt; continued lines are one."""
        text = self.text.replace("\\\n", "\\\0")
        lines = text.splitlines()
        if self.kind == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        joined: list[str] = []
        for line in filter(str.strip, lines):
            # A quotation that goes on in the next line.
            if joined and joined[-1].count("'") % 2:
                joined[-1] += f"\n{line}"
            else:
                joined.append(line)
        return [line.replace("\0", "\n") for line in joined]

    @property
    def refused(self):
        return "/problems/" in self.text


def blocks_of(page):
    text = page.read_text("utf-8")
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        content = textwrap.dedent(found["text"])
        yield Block(f"{page.relative_to(ROOT)}:{line}", found["kind"], content)
