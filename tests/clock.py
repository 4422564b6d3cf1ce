"""A clock that a test moves, so that no deadline depends on how fast the machine is."""

import asyncio


class LoopClock:
    """The clock of the running event loop, which goes on as usual and jumps when told to."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        time = loop.time
        self._ahead = 0.0
        loop.time = lambda: time() + self._ahead  # type: ignore[method-assign]

    def jump(self, seconds):
        """Let so much time pass at once; what was to end meanwhile ends at the loop's next turn."""
        self._ahead += seconds
