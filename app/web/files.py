"""The pages and their static files, read once into memory.

All static files have one path with a digest of their whole content,
`/static/DIGEST/bundle/upscale.js`, so a visit uses files of one release only, and browsers
may keep them for ever. Each page loads one bundle of modules and one of style sheets.
"""

from __future__ import annotations

import gzip
import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from string import Template

from app.web import bundle

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
class Page:
    """One page: `pages/NAME.html` inside the layout, with `css/NAME.css` and `js/NAME.js`."""

    name: str
    title: str
    paths: tuple[str, ...]
    """Where it is served; the navigation links to the first one."""
    needs_admin: bool = False


PAGES = (
    Page("upscale", "Upscale", ("/", "/r/{result_id}")),
    Page("calibrations", "Calibrations", ("/calibrations",), needs_admin=True),
    Page("annotate", "Annotate", ("/annotate",), needs_admin=True),
    Page("monitor", "Monitor", ("/monitor",), needs_admin=True),
)

MISSING = Page("missing", "Not found", ())
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
        self._root = root or resources.files("app.web")

    @cached_property
    def static(self) -> Mapping[str, File]:
        """Static files by path relative to `static/`, and the bundles of the pages."""
        found = dict(_walk(self._root / "static"))
        texts = {
            path: file.data.decode()
            for path, file in found.items()
            if path.startswith(("js/", "css/")) and not path.endswith("txt")
        }
        for entry in (*(page.name for page in (*PAGES, MISSING)), "upscale/worker"):
            if (path := f"js/{entry}.js") in texts:
                text = bundle.script(path, texts)
                found[_bundled(path)] = _file(text.encode(), MEDIA_TYPES["js"])
        for page in (*PAGES, MISSING):
            sheets = [path for path in ("css/base.css", f"css/{page.name}.css") if path in texts]
            text = bundle.style(sheets, texts)
            found[_bundled(f"{page.name}.css")] = _file(text.encode(), MEDIA_TYPES["css"])
        return found

    @cached_property
    def digest(self) -> str:
        """Of the names and bytes of all static files."""
        whole = hashlib.sha256()
        for path, file in sorted(self.static.items()):
            whole.update(f"{path}\0{file.etag}\0".encode())
        return whole.hexdigest()[:16]

    @cached_property
    def pages(self) -> Mapping[str, File]:
        """The finished pages by name."""
        layout = Template(self._text("layout.html"))
        return {page.name: self._page(layout, page) for page in (*PAGES, MISSING)}

    def _page(self, layout: Template, page: Page) -> File:
        base = f"/static/{self.digest}"
        text = layout.substitute(
            title=html.escape(page.title),
            name=page.name,
            static=base,
            nav=_navigation(page),
            main=Template(self._text(f"{page.name}.html")).safe_substitute(static=base),
        )
        return _file(text.encode(), "text/html; charset=utf-8")

    def _text(self, name: str) -> str:
        return (self._root / "pages" / name).read_text("utf-8")


def _bundled(path: str) -> str:
    return f"bundle/{path.rpartition('/')[2]}"


def _navigation(current: Page) -> str:
    """The links to all pages."""
    links = (
        f'<a href="{page.paths[0]}"{_state(page, current)}>{html.escape(page.title)}</a>'
        for page in PAGES
    )
    return "\n".join(links)


def _state(page: Page, current: Page) -> str:
    """Other pages for admins are hidden until the tab has a key."""
    if page is current:
        return ' aria-current="page"'
    return " data-admin hidden" if page.needs_admin else ""


def _walk(folder: Traversable, prefix: str = "") -> list[tuple[str, File]]:
    """All files below a folder whose type is known."""
    found = []
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _walk(entry, f"{path}/")
        elif media_type := MEDIA_TYPES.get(entry.name.rpartition(".")[2]):
            found.append((path, _file(entry.read_bytes(), media_type)))
    return found


def _file(data: bytes, media_type: str) -> File:
    packed = None
    if media_type.startswith(("text/", "image/svg")):
        packed = File(gzip.compress(data, mtime=0), media_type, f'"{_digest(data)}-gzip"')
    return File(data, media_type, f'"{_digest(data)}"', packed)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
