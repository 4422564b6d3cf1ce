"""Many modules or style sheets as one file, so that a page starts with few requests.

The sources remain modules, which browsers and Node can load singly. A bundle contains each of them
in a function, after those that it imports.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

# `import {a, b as c} from "./x.js";` or `import * as x from "./x.js";`, also as minifiers write it.
_IMPORT = re.compile(
    r'(?:^|(?<=;))import\s*(?:\{(?P<names>[^}]*)\}|\*\s*as\s+(?P<all>\w+))\s*from\s*"(?P<path>[^"]+)";',
    re.MULTILINE,
)
_LIST = re.compile(r'(?:^|(?<=[;}]))export\s*\{([^}]*)\}(?:\s*from\s*"([^"]+)")?;', re.MULTILINE)
_DECLARED = re.compile(r"^export ((?:async )?(?:const|function\*?|class) ([\w$]+))", re.MULTILINE)
_DYNAMIC = re.compile(r'\bimport\("([^"]+)"\)')
_SHEET = re.compile(r'^@import "([^"]+)";$', re.MULTILINE)


class NotBundled(ValueError):
    """A bundle cannot contain this module."""


def script(entry: str, texts: Mapping[str, str]) -> str:
    """A module with all its imports. `texts`: modules by their paths below one root.

    The bundle must be served one folder below that root.

    Raises:
        NotBundled: modules import each other, have other forms of imports, or are missing.
    """
    done: dict[str, str] = {}

    def add(path: str, above: tuple[str, ...] = ()) -> None:
        if path in done:
            return
        if path in above or path not in texts:
            raise NotBundled(f"{' → '.join([*above, path])}: a circle, or no such file")
        text = texts[path]
        for found in (*_IMPORT.finditer(text), *_LIST.finditer(text)):
            source = found["path"] if found.re is _IMPORT else found[2]
            if source:
                add(_joined(path, source), (*above, path))
        done[path] = _wrapped(path, text)

    add(entry)
    head = 'const __root = new URL("../", import.meta.url).href;\nconst __ = {};\n'
    return head + "".join(done.values())


def _wrapped(path: str, text: str) -> str:
    """A module as an assignment of its exports."""
    exports: dict[str, str] = {}

    def imported(found: re.Match[str]) -> str:
        source = f'__["{_joined(path, found["path"])}"]'
        if found["all"]:
            return f"const {found['all']} = {source};"
        names = (": ".join(pair) for pair in _pairs(found["names"]))
        return f"const {{ {', '.join(names)} }} = {source};"

    def listed(found: re.Match[str]) -> str:
        source = f'__["{_joined(path, found[2])}"].' if found[2] else ""
        exports.update({name: source + own for own, name in _pairs(found[1])})
        return ""

    def declared(found: re.Match[str]) -> str:
        exports[found[2]] = found[2]
        return found[1]

    text = _DECLARED.sub(declared, _LIST.sub(listed, _IMPORT.sub(imported, text)))
    text = text.replace("import.meta.url", f'(__root + "{path}")')
    text = _DYNAMIC.sub(lambda found: f'import(__root + "{_joined(path, found[1])}")', text)
    if left := re.search(r"^(?:import|export)\b.*", text, re.MULTILINE):
        raise NotBundled(f"{path}: {left[0]}")
    given = ", ".join(f"{name}: {own}" for name, own in exports.items())
    body = f'"use strict";\n{text}\nreturn {{ {given} }};'
    return f'// {path}\n__["{path}"] = (() => {{\n{body}\n}})();\n'


def _joined(path: str, source: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), source))


def _pairs(names: str) -> list[tuple[str, str]]:
    """`a, b as c` as [("a", "a"), ("b", "c")]."""
    found = (name.split(" as ") for name in map(str.strip, names.split(",")) if name)
    return [(pair[0].strip(), pair[-1].strip()) for pair in found]


def style(entries: list[str], texts: Mapping[str, str]) -> str:
    """Style sheets in order, each once and after its imports."""
    done: dict[str, str] = {}

    def add(path: str) -> None:
        if path in done:
            return
        for source in _SHEET.findall(texts[path]):
            add(_joined(path, source))
        done[path] = _SHEET.sub("", texts[path])

    for entry in entries:
        add(entry)
    return "".join(done.values())
