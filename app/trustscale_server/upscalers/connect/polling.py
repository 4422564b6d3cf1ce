"""How an API with a queue is asked for its picture, guessed from what it answers.

Such an API answers with an id or an address, and mostly with a status, in place of a picture.
Asking again is free, so each guess is tried in turn within one paid call (`trial.attempt`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from trustscale_server.upscalers.entries import Entry
from trustscale_server.upscalers.pointers import first, leaves

_ID: Final = re.compile(r"(^|[_-])(id|uuid|guid|job|task|prediction|ticket)$", re.IGNORECASE)
_STATE: Final = re.compile(r"(^|[_-])(status|state|phase)$", re.IGNORECASE)
_LINK: Final = re.compile(r"status|poll|check|get$|self$|result|response|location", re.IGNORECASE)
_RESULT: Final = re.compile(r"status|result|job|task|prediction|request", re.IGNORECASE)
_MAX_GUESSES: Final = 4  # of a kind

_DONE: Final = ("succeeded", "success", "successful", "completed", "complete", "done", "finished",
    "ready", "ok")  # fmt: skip
_FAILED: Final = ("failed", "failure", "error", "errored", "canceled", "cancelled", "rejected",
    "expired")  # fmt: skip


def guesses(entry: Entry, document: Any, paths: Sequence[str]) -> list[Entry]:
    """Return entries that ask for the picture later; none if the answer is not of a queue.

    entry: of kind `http`. document: an answer that has no picture. paths: of the API's GET
    operations, with `{id}`.
    """
    if "poll" not in entry:
        ways = [*_links(document), *_paths(entry, document, paths)]
        return [{**entry, "poll": way} for way in ways]
    if "done" in entry["poll"]:
        return []
    return [
        {**entry, "poll": {**entry["poll"], **_conditions(place)}}
        for place, value in leaves(document)
        if isinstance(value, str) and _STATE.search(_name(place))
    ][:1]


def queue_hint(entry: Entry, document: Any) -> str:
    """Return the options that describe a queue by hand, for an answer whose picture was not found.

    Empty if nothing in the answer speaks of a queue.
    """
    ids = [place for place, _ in _ids(document)]
    if not ids and not [*_links(document)]:
        return ""
    path = str(first(entry, "/request/path") or "").rstrip("/")
    return (
        "It answers as an API with a queue does, and where to ask for the picture was not found. "
        f"Say it, with the API's own words: --set poll.path={path}/{{id}} "
        f"--set poll.id_pointer={(ids or ['/id'])[0]} --set poll.done.pointer=/status "
        "--set 'poll.done.in=[\"completed\"]' --set answer.pointer=/output"
    )


def narrowed(entry: Entry, documents: Sequence[Any]) -> Entry:
    """Return the entry with the one word for "done" that the API has used, where it was guessed."""
    done = entry.get("poll", {}).get("done")
    if not done or done[0].get("in") != _spelled(_DONE):
        return entry
    answers = [first(document, done[0]["pointer"]) for document in documents]
    words = [word for word in answers if word in done[0]["in"]]
    if not words:
        return entry
    return {**entry, "poll": {**entry["poll"], "done": [{**done[0], "in": [words[-1]]}]}}


def _links(document: Any) -> Iterator[Entry]:
    """Addresses in the answer, first those whose name speaks of a status."""
    links = [
        place
        for place, value in leaves(document)
        if isinstance(value, str) and value.startswith(("http", "/")) and _LINK.search(place)
    ]
    ordered = sorted(links, key=lambda place: "status" not in place.lower())
    yield from ({"url_pointer": place} for place in ordered[:_MAX_GUESSES])


def _paths(entry: Entry, document: Any, paths: Sequence[str]) -> Iterator[Entry]:
    """Paths where the answer's id may lead, the likeliest first."""
    base_path = str(first(entry, "/request/path") or "").rstrip("/")
    likely = [path for path in paths if path.startswith(f"{base_path}/") or _RESULT.search(path)]
    ordered = sorted(likely, key=lambda path: (not path.startswith(f"{base_path}/"), len(path)))
    for place, _ in [*_ids(document)][:2]:
        for path in (ordered or [f"{base_path}/{{id}}"])[:_MAX_GUESSES]:
            yield {"path": path, "id_pointer": place}


def _ids(document: Any) -> Iterator[tuple[str, Any]]:
    for place, value in leaves(document):
        is_id = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
        if is_id and _ID.search(_name(place)):
            yield place, value


def _conditions(place: str) -> Entry:
    return {
        "done": [{"pointer": place, "in": _spelled(_DONE)}],
        "failed": [{"pointer": place, "in": _spelled(_FAILED)}],
    }


def _spelled(words: Sequence[str]) -> list[str]:
    """The words as APIs spell them."""
    return [form for word in words for form in (word, word.upper(), word.capitalize())]


def _name(place: str) -> str:
    return place.rpartition("/")[2]
