"""All modules of a page in one file, so that a first visit waits for one answer, not for fifty.

The sources stay as browsers run them, without a build step: when the service starts, each module
becomes a function that is called once, when another one needs it. Modules must not import each
other in circles, which `linked` refuses.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterator
from typing import Final

_NAMED: Final = re.compile(
    r"(?:^|(?<=;))(?P<kind>import|export)\s*(?P<what>\*\s*as\s+\w+|\{[^}]*\})\s*from\s*"
    r'"(?P<source>\.[^"]+)";',
    re.MULTILINE,
)
_DECLARED: Final = re.compile(
    r"^export (?P<rest>(?:const|(?:async )?function\*?|class) (?P<names>[\w$]+|\[[\w$, ]+\]))",
    re.MULTILINE,
)
_LISTED: Final = re.compile(r"(?:^|(?<=[;}]))export\s*\{(?P<names>[^}]*)\};", re.MULTILINE)
_LATER: Final = re.compile(r'\bawait import\("(?P<source>\.[^"]+)"\)')
_NOT_LINKED: Final = re.compile(r"^(?:import|export)\b.*|import\.meta\.\w+", re.MULTILINE)

# No name of a module begins like these.
_PRELUDE: Final = """const __modules = {};
const __made = {};
const __needed = (path) => (__made[path] ??= __modules[path]());
const __later = async (path) => __needed(path);
const __own = (path) => new URL(`../${path}`, import.meta.url).href;
"""


def linked(entry: str, read: Callable[[str], str]) -> str:
    """Return one script that does what a module does, with all that it imports, now or later.

    read: the text of a module by its path. The script is to be served one folder below the root of
    those paths.

    Raises:
        ValueError: a module has a form of import or export that is not known here, or modules
            import each other in circles.
    """
    functions: dict[str, str] = {}
    _visit(entry, read, functions, [])
    return _PRELUDE + "".join(functions.values()) + f"__needed({json.dumps(entry)});\n"


def _visit(
    path: str, read: Callable[[str], str], functions: dict[str, str], above: list[str]
) -> None:
    if path in above:
        raise ValueError(f"Modules import each other in a circle: {[*above, path]}.")
    if path in functions:
        return
    text, sources, lazy = _wrapped(path, read(path))
    for source in sources:
        _visit(source, read, functions, [*above, path])
    functions[path] = text
    for source in lazy:  # may import its importers, since it is called after them
        _visit(source, read, functions, [])


def _wrapped(path: str, text: str) -> tuple[str, list[str], list[str]]:
    """The module as a function, and the modules that it imports at once, and later."""
    sources: list[str] = []
    lazy: list[str] = []
    exports: list[str] = []

    def resolved(source: str) -> str:
        return posixpath.normpath(posixpath.join(posixpath.dirname(path), source))

    def named(match: re.Match[str]) -> str:
        source = resolved(match["source"])
        sources.append(source)
        module = f"__needed({json.dumps(source)})"
        if match["kind"] == "export":
            exports.extend(f"{new}: {module}.{old}" for old, new in _pairs(match["what"]))
            return ""
        if match["what"].startswith("*"):
            return f"const {match['what'].split()[-1]} = {module};"
        names = ", ".join(f"{old}: {new}" for old, new in _pairs(match["what"]))
        return f"const {{ {names} }} = {module};"

    def declared(match: re.Match[str]) -> str:
        exports.extend(re.findall(r"[\w$]+", match["names"]))
        return match["rest"]

    def listed(match: re.Match[str]) -> str:
        exports.extend(f"{new}: {old}" for old, new in _pairs(f"{{{match['names']}}}"))
        return ""

    def postponed(match: re.Match[str]) -> str:
        lazy.append(resolved(match["source"]))
        return f"await __later({json.dumps(lazy[-1])})"

    text = _NAMED.sub(named, text)
    text = _DECLARED.sub(declared, text)
    text = _LISTED.sub(listed, text)
    text = _LATER.sub(postponed, text).replace("import.meta.url", f"__own({json.dumps(path)})")
    if statement := _NOT_LINKED.search(text):
        raise ValueError(
            f"{path}: {statement[0][:80]!r} is no import or export that can be linked."
        )
    returned = f"return {{ {', '.join(exports)} }};"
    return f"__modules[{json.dumps(path)}] = () => {{\n{text}\n{returned}\n}};\n", sources, lazy


def _pairs(names: str) -> Iterator[tuple[str, str]]:
    """`{a, b as c}` as (a, a), (b, c)."""
    for name in names.strip("{}").split(","):
        if name.strip():
            old, _, new = name.strip().partition(" as ")
            yield old.strip(), (new or old).strip()
