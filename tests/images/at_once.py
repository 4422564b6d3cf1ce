"""A program whose threads read the first answers of many functions, each at the same time."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import make_dataclass
from threading import Barrier

from trustscale_server.images.sandbox.answers import packed, unpacked

FUNCTIONS, THREADS = 100, 4

if __name__ == "__main__":
    sys.setswitchinterval(1e-6)
    met = Barrier(THREADS)
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(FUNCTIONS):
            # The outer one is half known while msgspec evaluates the types of the inner one.
            inner = make_dataclass("Inner", [("size", "int"), ("sides", "tuple[int, ...] | None")])
            outer = make_dataclass("Outer", [("inner", list[inner]), ("name", str)])

            def function() -> outer:
                raise NotImplementedError

            answer = outer([inner(1, (2, 3))], "a")
            pieces, start = packed(answer)
            shared = memoryview(b"".join(pieces))

            def read(_, shared=shared, start=start, function=function, answer=answer):
                met.wait()
                return unpacked(shared, start, function) == answer

            assert all(threads.map(read, range(THREADS)))
