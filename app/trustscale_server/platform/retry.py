"""How a call that failed is tried again; when, its policy decides."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar, cast

from tenacity import AsyncRetrying, AttemptManager, RetryCallState, retry_if_exception_type

T = TypeVar("T")
Failure = TypeVar("Failure", bound=Exception)


async def retried(
    call: Callable[[], Awaitable[T]],
    on: type[Failure],
    pause: Callable[[Failure, int], float | None],
    *,
    before_pause: Callable[[Failure, float], None] | None = None,
) -> T:
    """Return what the call returns, repeated after these errors for as long as the policy says.

    Args:
        call: is made at least once.
        on: other errors are raised at once.
        pause: returns the seconds before the next call, from the error and the number of calls so
            far; None: there is no further call, and the error is raised.
        before_pause: called with each error after which the call is made again, and the pause.
    """
    trace: TracebackType | None = None

    def wait(state: RetryCallState) -> float:
        nonlocal trace
        error = _failure(state)
        trace = error.__traceback__
        seconds = pause(error, state.attempt_number)
        return math.inf if seconds is None else seconds

    def before_sleep(state: RetryCallState) -> None:
        if before_pause is not None:
            before_pause(_failure(state), state.upcoming_sleep)

    def _failure(state: RetryCallState) -> Failure:
        outcome = state.outcome
        return cast("Failure", None if outcome is None else outcome.exception())

    attempt: AttemptManager | None = None
    try:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(on),
            wait=wait,
            stop=lambda state: state.upcoming_sleep == math.inf,
            before_sleep=before_sleep,
            reraise=True,
        ):
            with attempt:
                return await call()
        raise AssertionError
    except on as error:
        raise error.with_traceback(trace)  # noqa: B904 - without frames that hold the error
    finally:
        # They hold the error, whose traceback holds this frame, and what the call has in memory.
        trace = None
        if attempt is not None:
            attempt.retry_state.outcome = None


def full_jitter(max_s: float) -> float:
    """Return a pause at random, so that callers that failed together do not come back together."""
    return random.uniform(0, max_s)  # noqa: S311 - no secret
