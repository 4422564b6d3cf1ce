"""A method that is written once, as a flow (`_calls.py`), and runs blocking or awaited."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from trustscale._calls import Flow, Value

P = ParamSpec("P")
V = TypeVar("V")


class Blocking:
    """What runs a flow at once."""

    def _run(self, flow: Flow[Value]) -> Value:
        raise NotImplementedError


class Awaited:
    """What runs a flow in an event loop."""

    async def _run(self, flow: Flow[Value]) -> Value:
        raise NotImplementedError


class Method:
    """A flow that is run by the object whose method it is."""

    def __init__(self, flow: Callable[..., Flow[Any]]) -> None:
        self._flow = flow
        self.__doc__ = flow.__doc__

    def _of(self, owner: Any) -> Any:
        if owner is None:
            return self._flow

        @functools.wraps(self._flow)
        def call(*args: Any, **options: Any) -> Any:
            return owner._run(self._flow(owner, *args, **options))  # noqa: SLF001 - our own

        return call


class method(Method, Generic[P, V]):  # noqa: N801 - a decorator
    """Makes a method of blocking and of awaited objects."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[V]]) -> None:
        super().__init__(flow)

    @overload
    def __get__(self, owner: Blocking, kind: object = None) -> Callable[P, V]: ...
    @overload
    def __get__(self, owner: Awaited, kind: object = None) -> Callable[P, Awaitable[V]]: ...
    def __get__(self, owner: object, kind: object = None) -> Any:
        return self._of(owner)
