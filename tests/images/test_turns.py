"""Nobody waits for another client's queue, and what is large gets its turn."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from harness.waiting import PATIENCE_S, block_until
from trustscale_server.platform.abandoned import NoLongerWaiting
from trustscale_server.platform.errors import Overloaded
from trustscale_server.platform.fair import WeightedSemaphore


def never():
    return False


class Crowd:
    """Threads that take turns and give them back when told; names begin with the client's letter.

    Each time that somebody leaves, a second passes. called: the names of those who had a turn, in
    order.
    """

    def __init__(self, amount, max_each=None):
        self._now = 0.0
        self.turns = WeightedSemaphore(amount, max_each, clock=lambda: self._now)
        self._threads = ThreadPoolExecutor(64)
        self._came = 0
        self._here = {}
        self.called = []

    def come(self, name, cost=1):
        self._came += 1
        end = threading.Event()
        self._here[name] = end, self._threads.submit(self._take, name, cost, end)
        self._settle()

    def leave(self, name):
        self._now += 1.0
        end, gone = self._here.pop(name)
        end.set()
        gone.result(PATIENCE_S)
        self._settle()

    def close(self):
        for end, _ in self._here.values():
            end.set()
        self._threads.shutdown()

    def _take(self, name, cost, end):
        with self.turns.held(name[0], cost, never):
            self.called.append(name)
            assert end.wait(PATIENCE_S)

    def _settle(self):
        block_until(lambda: len(self.turns._waiting) + len(self.called) == self._came)


@contextmanager
def crowd(*amounts):
    with closing(Crowd(*amounts)) as people:
        yield people


def test_clients_alternate():
    with crowd(1) as people:
        people.come("a0")
        for name in ("a1", "a2", "b1", "b2"):
            people.come(name)
        for name in ("a0", "b1", "a1", "b2"):
            people.leave(name)
        assert [name[0] for name in people.called] == ["a", "b", "a", "b", "a"]


def test_time_besides_is_charged():
    """Who has used much waits behind who has not, though he came first."""
    with crowd(1) as people:
        people.come("c")
        people.come("a")
        people.turns.charge("a", 100.0)
        people.come("b")
        people.leave("c")
        assert people.called == ["c", "b"]


def test_a_new_client_passes_nobody_who_has_waited():
    """One after another under new names cannot keep out who waits for his second turn."""
    with crowd(1) as people:
        people.come("a0")
        for name in ("b", "a1", "c"):
            people.come(name)
        people.leave("a0")
        for gone, new in zip("bcdefghijk", "defghijklm", strict=True):
            people.come(new)
            if "a1" in people.called:
                break
            people.leave(gone)
        assert "a1" in people.called


def test_nothing_small_passes_what_is_large():
    with crowd(10, 10) as people:
        people.come("a", 6)
        people.come("b", 9)
        people.come("c", 2)
        assert people.called == ["a"]
        people.leave("a")
        assert people.called == ["a", "b"]


def test_one_client_leaves_room():
    """A client has at most half at once, also while nobody else is there."""
    with crowd(10, 5) as people:
        for k in range(4):
            people.come(f"a{k}", 2)
        assert people.called == ["a0", "a1"]
        people.come("b", 5)
        assert people.called == ["a0", "a1", "b"]


def test_one_at_a_time_is_larger_than_the_whole():
    """Beside it is room for half of the whole."""
    with crowd(10, 5) as people:
        people.come("a", 1000)
        people.come("b", 4)
        people.come("c", 1000)
        assert people.called == ["a", "b"]
        people.leave("a")
        assert people.called == ["a", "b", "c"]


def test_waiting_ends():
    turns = WeightedSemaphore(1)
    with turns.held("a", 1, never):
        with pytest.raises(Overloaded) as caught, turns.held("b", 1, never, max_wait_s=0.01):
            pass
        assert caught.value.retry_after >= 1
        with pytest.raises(NoLongerWaiting), turns.held("b", 1, lambda: True):
            pass
    with turns.held("b", 1, never, max_wait_s=0.01):
        assert not turns._waiting


def test_nothing_is_remembered_of_clients_that_are_gone():
    turns = WeightedSemaphore(2)
    with turns.held("always", 1, never):
        for k in range(1000):
            with turns.held(str(k), 1, never):
                pass
        assert len(turns._ledger) < 10
    with turns.held("last", 1, never):
        pass
    assert not turns._holding
