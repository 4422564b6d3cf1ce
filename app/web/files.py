"""The pages and their static files, read once into memory.

All static files have one path with a digest of their whole content,
`/static/DIGEST/js/upscale.js`, so a visit uses files of one release only, and browsers may keep
them for ever. A page names all modules that its script imports, so that they load side by side.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from string import Template

_IMPORT = re.compile(r'^(?:import|export)\b[^;"\']*from "(\.[^"]+)";', re.MULTILINE)

MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "woff2": "font/woff2",
    "txt": "text/plain; charset=utf-8",
    "json": "application/json",
}


@dataclass(frozen=True, slots=True)
class SitePage:
    """One page: `pages/NAME.html` inside the layout, with its style sheet and script.

    sheets: style sheets that it shares with other pages.
    """

    name: str
    title: str
    paths: tuple[str, ...]
    """Where it is served; the navigation links to the first one."""
    needs_admin: bool = False
    sheets: tuple[str, ...] = ()


PAGES = (
    SitePage("upscale", "Upscale", ("/", "/wall", "/r/{result_id}")),
    SitePage(
        "calibrations", "Studio", ("/calibrations",), needs_admin=True, sheets=("jobs", "tiles")
    ),
    SitePage("annotate", "Annotate", ("/annotate",), needs_admin=True, sheets=("jobs",)),
    SitePage("monitor", "Monitor", ("/monitor",), needs_admin=True, sheets=("tiles",)),
)

MISSING = SitePage("missing", "Not found", ())
"""Shown for unknown addresses."""


@dataclass(frozen=True, slots=True)
class File:
    """The bytes of a static file or page, their type, and a tag that changes with them."""

    data: bytes
    media_type: str
    etag: str
    packed: File | None = None
    """The same by gzip, for browsers that accept it."""


class Site:
    """Everything that a browser can load of the pages."""

    def __init__(self, root: Traversable | None = None) -> None:
        self._root = root or resources.files(__package__)

    @cached_property
    def static(self) -> Mapping[str, File]:
        """Static files by path relative to `static/`."""
        return dict(_walk(self._root / "static"))

    def modules(self, entry: str) -> list[str]:
        """Return the paths of a script and of all modules that it imports, each once."""
        paths: dict[str, None] = {}
        waiting = [entry]
        while waiting:
            path = waiting.pop()
            if path in paths:
                continue
            paths[path] = None
            text = self.static[path].data.decode()
            folder = posixpath.dirname(path)
            waiting += [
                posixpath.normpath(posixpath.join(folder, source))
                for source in _IMPORT.findall(text)
            ]
        return list(paths)

    @cached_property
    def digest(self) -> str:
        """A digest of the names and bytes of all static files."""
        whole = hashlib.sha256()
        for path, file in sorted(self.static.items()):
            whole.update(f"{path}\0{file.etag}\0".encode())
        return whole.hexdigest()[:16]

    @cached_property
    def pages(self) -> Mapping[str, File]:
        """The finished pages by name."""
        layout = Template(self._text("layout.html"))
        return {page.name: self._page(layout, page) for page in (*PAGES, MISSING)}

    def _page(self, layout: Template, page: SitePage) -> File:
        base = f"/static/{self.digest}"
        entry, *others = self.modules(f"js/{page.name}.js")
        sheets = (f"css/{name}.css" for name in ("base", *page.sheets, page.name))
        text = layout.substitute(
            title=html.escape(page.title),
            name=page.name,
            static=base,
            styles=_lines(
                f'<link rel="stylesheet" href="{base}/{path}">'
                for path in sheets
                if path in self.static
            ),
            script=f"{base}/{entry}",
            modules=_lines(f'<link rel="modulepreload" href="{base}/{path}">' for path in others),
            nav=_navigation(page),
            main=Template(self._text(f"{page.name}.html")).safe_substitute(static=base),
        )
        return _file(text.encode(), "text/html; charset=utf-8")

    def _text(self, name: str) -> str:
        return (self._root / "pages" / name).read_text("utf-8")


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _navigation(current: SitePage) -> str:
    """The links to all pages."""
    links = (
        f'<a href="{page.paths[0]}"{_state(page, current)}>{html.escape(page.title)}</a>'
        for page in PAGES
    )
    return _lines(links)


def _state(page: SitePage, current: SitePage) -> str:
    """Other pages for admins are hidden until the tab has a key."""
    if page is current:
        return ' aria-current="page"'
    return " data-admin hidden" if page.needs_admin else ""


def _walk(folder: Traversable, prefix: str = "") -> list[tuple[str, File]]:
    """All files below a folder whose type is known."""
    files = []
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            files += _walk(entry, f"{path}/")
        elif media_type := MEDIA_TYPES.get(entry.name.rpartition(".")[2]):
            files.append((path, _file(entry.read_bytes(), media_type)))
    return files


def _file(data: bytes, media_type: str) -> File:
    packed = None
    if media_type.startswith(("text/", "image/svg")):
        packed = File(gzip.compress(data, mtime=0), media_type, f'"{_digest(data)}-gzip"')
    return File(data, media_type, f'"{_digest(data)}"', packed)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
