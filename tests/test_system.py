"""What a process may use, and work in threads that is waited for."""

import asyncio
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from trustscale_server.platform.memory import memory_limit
from trustscale_server.platform.tasks import shielded

GIB = 2**30


@pytest.fixture
def machine(tmp_path):
    """Writes the files of a system; the limit that is read from them."""

    def limit(own_group, **files):
        (tmp_path / "own").write_text(own_group)
        for name, content in files.items():
            path = tmp_path / "cgroup" / name.replace("__", "/").replace("_max", ".max")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return memory_limit(tmp_path / "cgroup", tmp_path / "own")

    return limit


OLD = "9:name=systemd:/\n4:memory:/a\n1:cpu:/\n0::/\n"


@pytest.mark.parametrize(
    ("own_group", "files"),
    [
        ("0::/\n", {"memory_max": f"{GIB}\n"}),
        (
            "0::/a/b\n",
            {"memory_max": "max\n", "a__memory_max": f"{GIB}\n", "a__b__memory_max": "max\n"},
        ),
        (OLD, {"memory__memory.limit_in_bytes": f"{GIB}\n"}),
    ],
    ids=["a container", "the smallest above", "the first version"],
)
def test_limits_of_control_groups(machine, own_group, files):
    assert machine(own_group, **files) == GIB


def test_without_a_limit(machine, tmp_path):
    """Else it is what the machine has, also where there are no control groups."""
    of_machine = memory_limit(tmp_path, tmp_path / "none")
    assert of_machine is None or of_machine > 2**28
    assert machine("0::/\n", memory_max="max\n") == of_machine


async def test_the_thread_lets_go():
    """What a thread was given is free once it has answered, though its pool has not woken up."""

    class Asleep(ThreadPoolExecutor):
        """Keeps every call, as a thread does that sleeps behind its answer."""

        kept: ClassVar[list[object]] = []

        def submit(self, function, /, *args, **kwargs):
            self.kept.append((function, args, kwargs))
            return super().submit(function, *args, **kwargs)

    class Sample:
        pass

    asyncio.get_running_loop().set_default_executor(Asleep(1))
    sample = Sample()
    seen = weakref.ref(sample)
    assert await shielded(lambda given: given is seen(), sample)
    del sample
    assert seen() is None
    assert Asleep.kept
