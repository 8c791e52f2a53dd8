"""The loop that awaits: ours is asyncio's, and whoever runs under another one hears it in so many words."""

from __future__ import annotations

import asyncio

from svcmesh.core.errors import ConfigError


class NoLoop(ConfigError, RuntimeError):
    """Nothing of asyncio runs here. Also the RuntimeError that asyncio itself raises."""

    def __init__(self) -> None:
        super().__init__(
            "no asyncio loop runs here: svcmesh awaits on asyncio (or uvloop) only; under trio use what is blocking, "
            "on a thread (trio.to_thread.run_sync)"
        )

    def __reduce__(self) -> tuple[type[NoLoop], tuple[()]]:
        """Be made anew."""
        return NoLoop, ()


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running asyncio loop.

    Raises:
        ConfigError: none runs here.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise NoLoop from None
