"""Retries, limits and the breaker, and what is counted of them."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from harness.fakes import Sink
from harness.waiting import cancelled, until
from tests.clock import LoopClock
from tests.numbers import numbers_of
from tests.upscalers.resilient import SOURCE, Inner, counted, guarded
from trustscale_server.platform.errors import ProtocolError, UpscalerRejected, UpscalerUnavailable
from trustscale_server.sampling.draw import TimeLimits, draw
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.failures import (
    BadCredentials,
    BreakerOpen,
    Busy,
    Filtered,
    GenerationFailed,
    NoImage,
    OutOfBounds,
    QuotaSpent,
    TooManyCalls,
)
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.resilience.breaker import Breaker, BreakerPolicy
from trustscale_server.upscalers.resilience.retry import RetryPolicy

ROOT = Path(__file__).parents[2]


class TestRetries:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [(UpscalerUnavailable("x"), "unavailable"), (Busy("x"), "busy"),
         (TooManyCalls("x", wait_s=0.01), "rate-limited"), (GenerationFailed("x"), "failed"),
         (NoImage("x", "/y", None), "protocol"), (NoImage("x", "/y", {}, "later"), "protocol")],
    )  # fmt: skip
    async def test_what_may_pass_is_tried_again(self, error, reason):
        inner = Inner([error, error])
        up = guarded(inner)
        with capture_logs() as logged:
            await up.generate(SOURCE, [7])
        assert inner.calls == [[7], [7], [7]]
        assert counted(up, "calls") == {reason: 2, "ok": 1}
        assert counted(up, "retries") == {reason: 2}
        assert numbers_of(up.metrics)["trustscale_upstream_call_seconds_count", "inner"] == 3
        assert [(one["event"], one["reason"]) for one in logged] == [("tried_again", reason)] * 2

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [(UpscalerRejected("x"), "rejected"), (Filtered("x"), "filtered"),
         (QuotaSpent("x"), "quota"), (BadCredentials("x"), "credentials"),
         (OutOfBounds("x"), "protocol"), (NoImage("x", "/y", {"z": 1}), "protocol")],
    )  # fmt: skip
    async def test_what_cannot_pass_is_not(self, error, outcome):
        up = guarded(Inner([error]))
        with pytest.raises(type(error)):
            await up.generate(SOURCE, [7])
        assert (counted(up, "calls"), counted(up, "retries")) == ({outcome: 1}, {})

    async def test_retry_after_with_patience(self):
        """A patient call waits as long as the server asks; others are made meanwhile."""
        inner, clock = Inner([TooManyCalls("x", wait_s=1200)]), LoopClock()
        up = guarded(inner)
        patient = asyncio.create_task(up.generate(SOURCE, [7], MemoryPermit(patience_s=6000)))
        await until(lambda: counted(up, "calls"))
        await up.generate(Source(SOURCE.rgb), [1])
        clock.jump(1080)  # two minutes less, in which a machine may stall
        await asyncio.sleep(0.05)
        assert inner.calls == [[7], [1]]
        clock.jump(241)  # 1200 s, a tenth of it, and 50 ms
        await patient
        assert inner.calls == [[7], [1], [7]]
        inner.errors = [TooManyCalls("x", wait_s=120)]
        with pytest.raises(TooManyCalls):
            await up.generate(SOURCE, [7], MemoryPermit(patience_s=100))

    @pytest.mark.parametrize("error", [OutOfBounds("x"), NoImage("x", "/y", {"z": 1})])
    async def test_another_seed_would_not_help(self, error):
        """An answer that cannot get better is asked for once, not once for each seed."""
        inner = Inner([error] * 100)
        with pytest.raises(type(error)):
            await draw(guarded(inner), SOURCE, [7], sink=Sink())
        assert inner.calls == [[7]]

    async def test_no_waiting_beyond_the_deadline(self):
        up = guarded(Inner([TooManyCalls("x", wait_s=55)]))
        deadline = asyncio.get_running_loop().time() + 50
        with pytest.raises(TooManyCalls):  # at the deadline it would be another error
            await draw(up, SOURCE, [1], sink=Sink(), limits=TimeLimits(deadline))

    async def test_budget(self):
        """A request has one retry per call and four to spare; the next has its own."""
        inner = Inner([GenerationFailed("x")] * 1000)
        up = guarded(inner, max_attempts=20)
        for seed in range(1, 4):
            with pytest.raises(GenerationFailed):
                await up.generate(SOURCE, [seed])
        assert len(inner.calls) == 3 + (3 + 4)
        with pytest.raises(GenerationFailed):
            await up.generate(Source(SOURCE.rgb), [1])
        assert len(inner.calls) == 10 + 1 + (1 + 4)

    async def test_slow_try(self):
        inner = Inner(seconds=3600)
        up = guarded(inner, call_timeout_s=0.05, max_attempts=2)
        with pytest.raises(UpscalerUnavailable, match=r"within 0\.05 s"):
            await up.generate(SOURCE, [7])
        assert (len(inner.calls), inner.cancelled) == (2, 2)

    async def test_waiting_for_the_turn_costs_no_time(self):
        """A try that has its answer and waits for other calls of ours does not time out."""
        clock, shared, taken = LoopClock(), asyncio.Lock(), asyncio.Event()

        class Decoding(Inner):
            async def generate(self, source, seeds, permit=None):
                taken.set()
                await permit.take()
                return await super().generate(source, seeds, permit)

        inner = Decoding()
        await shared.acquire()
        up = guarded(inner, call_timeout_s=60)
        task = asyncio.create_task(up.generate(SOURCE, [7], MemoryPermit(shared)))
        await taken.wait()
        clock.jump(600)
        await asyncio.sleep(0.01)
        inner.seconds = 3600  # from here on it is the upscaler that takes its time
        shared.release()
        await until(lambda: inner.calls)
        assert not task.done()
        assert counted(up, "calls") == {}
        clock.jump(61)
        await cancelled(task, lambda: counted(up, "calls") == {"timeout": 1})

    async def test_foreign_exceptions(self):
        with pytest.raises(ProtocolError) as failure:
            await guarded(Inner([KeyError("the secret")]), max_attempts=1).generate(SOURCE, [7])
        assert "secret" not in failure.value.detail

    async def test_cancelling(self):
        """It reaches the inner call and frees the slot; the call is counted, not its time."""
        inner = Inner(seconds=3600, concurrency=1)
        up = guarded(inner)
        task = asyncio.create_task(up.generate(SOURCE, [7]))
        await cancelled(task, lambda: inner.calls)
        assert (inner.cancelled, counted(up, "calls")) == (1, {"cancelled": 1})
        assert ("trustscale_upstream_call_seconds_count", "inner") not in numbers_of(up.metrics)
        inner.seconds = 0
        await up.generate(SOURCE, [7])


class TestColdStart:
    """An upscaler that is started because it is asked for."""

    class Cold(Inner):
        """Is away for a call and two checks; what was open is noted at each."""

        def __init__(self):
            super().__init__([UpscalerUnavailable("x")])
            self.away, self.open = 2, []

        async def generate(self, source, seeds, permit=None):
            self.note()
            return await super().generate(source, seeds, permit)

        async def probe(self):
            self.note()
            self.away -= 1
            if self.away >= 0:
                raise UpscalerUnavailable("x")

        def note(self):
            self.open.append(self.calls_open())

    @pytest.mark.parametrize("way", ["generate", "wake"])
    @pytest.mark.parametrize("cold_start_s", [0, 60])
    async def test_waited_for(self, way, cold_start_s):
        """A call waits for it so long and no longer, and is counted as open all the while."""
        inner = self.Cold()
        up = guarded(inner, max_attempts=1, breaker_rest_s=0.01, cold_start_s=cold_start_s)
        inner.calls_open = lambda: numbers_of(up.metrics)[
            "trustscale_upstream_calls_in_flight", "inner"
        ]
        assert inner.calls_open() == 0
        call = up.generate(SOURCE, [7]) if way == "generate" else up.wake()
        if cold_start_s:
            await call
            assert len(inner.open) >= 3
        else:
            with pytest.raises(UpscalerUnavailable):
                await call
            assert len(inner.open) == 1
        assert set(inner.open) == {1}
        assert inner.calls_open() == 0


class TestWorstCase:
    """An upscaler that takes all of its time, and then has an excuse, for ever."""

    @staticmethod
    def most_calls(policy, calls, *, patient):
        """The most calls, and payments, that a request of so many calls can become."""
        return calls * (2 + (policy.max_attempts + 1) * patient) + policy.spare

    @staticmethod
    def most_s(policy, call_s, patience_s=0):
        """The most seconds that a call can last, with attempts of `call_s` at most."""
        return call_s + max(policy.total_s, patience_s) + call_s

    @pytest.mark.parametrize("patience_s", [0, 600])
    @pytest.mark.parametrize(
        "error", [TooManyCalls("x", wait_s=60), GenerationFailed("x"), UpscalerUnavailable("x")]
    )
    async def test_of_one_call(self, error, patience_s):
        """Seconds and calls, and so money, are what docs/upscalers.md says at most."""
        policy, clock, inner = RetryPolicy(), LoopClock(), Inner([error] * 1000, seconds=119)
        up = guarded(inner, call_timeout_s=120, max_pause_s=8.0)
        now = asyncio.get_running_loop().time
        began, permit = now(), MemoryPermit(patience_s=patience_s)
        call = asyncio.create_task(up.generate(SOURCE, [7], permit))
        while not call.done():
            clock.jump(1)
            for _ in range(20):
                await asyncio.sleep(0)
        await up.close()
        assert type(call.exception()) is type(error)
        assert now() - began <= self.most_s(policy, 120, patience_s) + 5
        assert len(inner.calls) <= self.most_calls(policy, 1, patient=patience_s > 0)

    def test_what_the_page_says(self):
        policy, page = RetryPolicy(), (ROOT / "docs/upstream.md").read_text("utf-8")
        minutes = self.most_s(policy, 120) / 60
        calls, patient = (self.most_calls(policy, 4, patient=waits) for waits in (False, True))
        for words in (f"{minutes:g} minutes", f"{calls} calls", f"{patient} for a pair"):
            assert words in page


DEAD = UpscalerUnavailable("dead")


@pytest.mark.parametrize(("slots", "refused", "after"), [(None, 5, 4), (1, 12, 1)])
async def test_what_passes_is_forgotten(slots, refused, after):
    """Five answers of 503 in 46 calls cost a few calls' time; a small server stays spared."""
    errors = [] if slots else [Busy("x")] * 5
    inner = Inner(errors, seconds=0.005, concurrency=4, slots=slots)
    up = guarded(inner, first_s=0.01)
    await asyncio.gather(*(up.generate(Source(SOURCE.rgb), [i]) for i in range(1, 24)))
    inner.most_in_flight = 0
    await asyncio.gather(*(up.generate(Source(SOURCE.rgb), [i]) for i in range(1, 24)))
    assert counted(up, "calls")["busy"] <= refused
    assert inner.most_in_flight == after


class TestBreaker:
    @pytest.fixture
    async def dead(self):
        """An upscaler whose inner one is dead, closed when the test ends."""
        made = []

        def build(inner=None, **options):
            inner = inner or Inner(concurrency=1)
            inner.failure = DEAD
            made.append(guarded(inner, **{"breaker_blip_s": 0, **options}))
            return made[-1], inner

        yield build
        for up in made:
            await up.close()

    async def test_dead_upstream(self, dead):
        """Once open, answers come at once, without a call, until the health check succeeds."""
        up, inner = dead(breaker_failures=4, breaker_rest_s=0.05, max_attempts=3)
        for _ in range(2):
            with pytest.raises(UpscalerUnavailable):
                await up.generate(Source(SOURCE.rgb), [1])
        assert len(inner.calls) == 4
        with pytest.raises(BreakerOpen):
            await up.generate(SOURCE, [1])
        assert len(inner.calls) == 4
        assert gauge(up) == 1
        inner.failure = None
        await until(lambda: gauge(up) == 0)
        # After its own health check, one more failure is enough to open it again.
        inner.failure = DEAD
        with pytest.raises(BreakerOpen):
            await up.generate(Source(SOURCE.rgb), [1])
        assert len(inner.calls) == 5
        inner.failure = None
        await until(lambda: gauge(up) == 0)
        await up.generate(SOURCE, [1])
        assert not up.breaker_open

    async def test_one_health_check_at_a_time(self, dead):
        """An answer in flight closes the breaker and a failure opens it: one waits for its turn."""
        gate = asyncio.Event()
        inner = Inner(concurrency=2)
        up, _ = dead(inner, breaker_failures=1, breaker_rest_s=3600, max_attempts=1)
        inner.gate, inner.failure = gate, None
        slow = asyncio.create_task(up.generate(Source(SOURCE.rgb), [1]))
        await until(lambda: inner.in_flight)
        inner.failure = DEAD
        for _ in range(2):
            with pytest.raises(UpscalerUnavailable):
                await up.generate(Source(SOURCE.rgb), [2])
            assert up.breaker_open
            gate.set()
            await slow
        assert len(recoveries()) == 1

    async def test_none_after_the_end(self, dead):
        """A call that fails while the upscaler is closed starts no health check."""
        up, inner = dead(breaker_failures=1, breaker_rest_s=3600, max_attempts=1)
        call = up.generate(Source(SOURCE.rgb), [1])
        await up.close()
        with pytest.raises(UpscalerUnavailable):
            await call
        assert up.breaker_open
        assert not recoveries()
        assert inner.checks == 0

    def test_seconds_count_and_not_calls(self):
        """Many calls that fail together, as when a cable is pulled, count once."""
        now = 1000.0
        judge = Breaker(BreakerPolicy(failures=3, blip_s=1), clock=lambda: now)
        for second in range(3):
            assert not judge.is_open
            now = 1000.0 + second
            for _ in range(50):
                judge.failed()
        assert judge.is_open

    async def test_patience(self, dead):
        """A call with patience waits for the health check; others fail at once."""
        up, inner = dead(breaker_rest_s=0.01, max_attempts=2)
        patient = asyncio.create_task(up.generate(SOURCE, [1], MemoryPermit(patience_s=3600)))
        await until(lambda: inner.checks > 2)
        assert len(inner.calls) == 2  # only the free health check asks meanwhile
        with pytest.raises(BreakerOpen):
            await up.generate(Source(SOURCE.rgb), [1])
        inner.failure = None
        assert len(await patient) == 1
        assert not up.breaker_open

    async def test_patience_ends(self, dead):
        """Patience ends, at once if only an operator can help."""
        clock = LoopClock()
        up, _ = dead(breaker_rest_s=3600, max_attempts=1)
        patient = asyncio.create_task(up.generate(SOURCE, [1], MemoryPermit(patience_s=60)))
        await until(lambda: up.breaker_open)
        clock.jump(61)
        with pytest.raises(UpscalerUnavailable):
            await patient
        with pytest.raises(BadCredentials):
            await guarded(Inner([BadCredentials("x")])).generate(
                SOURCE, [1], MemoryPermit(patience_s=60)
            )


async def test_spend_limit():
    inner = Inner()
    up = guarded(inner, max_calls_per_hour=2)
    for seed in (1, 2):
        await up.generate(SOURCE, [seed])
    with pytest.raises(QuotaSpent, match="max_calls_per_hour of 2") as failure:
        await up.generate(SOURCE, [3])
    assert failure.value.retry_after == 3600
    assert len(inner.calls) == 2


def recoveries():
    """The health checks that wait or run in this loop."""
    tasks = (task for task in asyncio.all_tasks() if not task.cancelling())
    return [task for task in tasks if task.get_coro().__name__ == "_recover"]


def gauge(up):
    return numbers_of(up.metrics)["trustscale_upstream_breaker_open", "inner"]
