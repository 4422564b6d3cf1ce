"""Logs tell what went wrong, in a few lines, and nothing that a variable held."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from tests.logs import logging_as

LONGEST = 40_000
SECRET = f"token-of-{3 * 7}-people"  # a value that no line of the source holds


def failed(secret: str, depth: int = 0) -> None:
    """An error whose frames hold a secret, at a depth."""
    if depth:
        failed(secret, depth - 1)
    try:
        {}["first"]
    except KeyError:
        raise ValueError("said") from None


def endless(secret: str) -> None:
    """A recursion of two functions, where each failure is handled by another."""
    try:
        other(secret)
    except RecursionError as error:
        raise RuntimeError("x" * 100_000) from error


def other(secret: str) -> None:
    endless(secret)


@pytest.mark.parametrize("style", ["json", "console"])
class TestErrors:
    @pytest.mark.parametrize("failing", [failed, endless])
    @pytest.mark.parametrize("ours", [True, False], ids=["ours", "library"])
    def test_no_values_and_a_bound(self, capsys, style, failing, ours):
        """An error is told by its frames and its words, never by locals, and never at length."""
        with logging_as(style):
            try:
                failing(SECRET)
            except Exception as error:
                if ours:
                    structlog.get_logger("x").error("event", exc_info=error)
                else:
                    logging.getLogger("library").exception("event")
        written = capsys.readouterr().err
        assert SECRET not in written
        assert f"in {failing.__name__}" in written
        assert len(written) < LONGEST
        assert "KeyError" not in written  # as the error itself says, by `from None`

    def test_causes(self, capsys, style):
        """What an error was raised from, and what a group holds, is told too; a circle ends."""
        with logging_as(style):
            try:
                try:
                    failed(SECRET)
                except ValueError as cause:
                    group = ExceptionGroup("several", [OSError("member"), cause])
                    cause.__cause__ = group
                    raise group from cause
            except ExceptionGroup:
                structlog.get_logger("x").exception("event")
        written = capsys.readouterr().err
        assert all(word in written for word in ("several", "member", "said"))
        assert written.count("ValueError: said") == 1


@pytest.mark.parametrize("style", ["json", "console"])
def test_long_values(capsys, style):
    """Whatever is logged, an event stays short; what is short stays what it is."""
    with logging_as(style):
        structlog.get_logger("x").info(
            "event", text="y" * 10**6, many=["z" * 1000] * 1000, count=3, few=[1, "a"]
        )
    written = capsys.readouterr().err
    assert len(written) < LONGEST
    if style == "json":
        event = json.loads(written)
        assert (event["count"], event["few"]) == (3, [1, "a"])


@pytest.mark.parametrize("is_terminal", [True, False])
def test_for_whom(capsys, monkeypatch, is_terminal):
    """People at a terminal read lines, collectors JSON."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    with logging_as("auto"):
        structlog.get_logger("x").info("event")
    assert capsys.readouterr().err.startswith("{") is not is_terminal
