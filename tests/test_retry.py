"""A call that failed is made again when its policy says so, and never otherwise."""

import asyncio
import gc
import weakref

import pytest

from trustscale_server.platform.retry import full_jitter, retried


class Calls:
    """Calls that raise these errors in turn, then return their number."""

    def __init__(self, *errors):
        self._errors = iter(errors)
        self.count = 0

    async def __call__(self):
        self.count += 1
        for error in self._errors:
            raise error
        return self.count


async def test_pauses_are_the_policy_s():
    """The policy sees each error with the number of calls; what it says is waited for."""
    first, second = ValueError("a"), ValueError("b")
    asked, told = [], []

    def pause(error, calls):
        asked.append((error, calls))
        return 0.001 * calls

    noted = lambda error, seconds: told.append((error, seconds))  # noqa: E731
    calls = Calls(first, second)
    assert await retried(calls, ValueError, pause, before_pause=noted) == 3
    assert asked == [(first, 1), (second, 2)]
    assert told == [(first, 0.001), (second, 0.002)]


@pytest.mark.parametrize("error", [KeyError("x"), asyncio.CancelledError()])
async def test_other_errors_end_it(error):
    calls = Calls(error)
    with pytest.raises(type(error)):
        await retried(calls, ValueError, lambda *_: 0.0)
    assert calls.count == 1


async def test_without_a_pause_the_error_is_raised_as_it_is():
    last = ValueError("last")
    calls = Calls(ValueError("first"), last, ValueError("never"))
    with pytest.raises(ValueError, match="last") as caught:
        await retried(calls, ValueError, lambda _, calls: 0.0 if calls < 2 else None)
    assert caught.value is last
    assert calls.count == 2


async def test_a_failed_call_frees_its_memory_at_once():
    """Neither the error nor what the call had is kept until the collector runs."""

    class Samples:
        pass

    kept = []

    async def call():
        samples = Samples()
        kept.append(weakref.ref(samples))
        raise ValueError("failed")

    gc.disable()
    try:
        for error in (ValueError, KeyError):
            with pytest.raises(ValueError, match="failed"):
                await retried(call, error, lambda _, calls: 0.0 if calls < 2 else None)
        assert [one() for one in kept] == [None] * 3
    finally:
        gc.enable()


def test_jitter():
    assert all(0 <= full_jitter(0.5) <= 0.5 for _ in range(100))
