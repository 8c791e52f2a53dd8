"""What lives in one process: it has connections, locks and counts, and means nothing in another one."""

from __future__ import annotations

from typing import Any, NoReturn


class LivesHere:
    """A base of what is neither pickled nor copied, and says what to do instead.

    Python's own error would name a lock somewhere inside, to somebody who has only handed a task to a process pool.
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol: Any, /) -> NoReturn:
        """Refuse.

        Raises:
            TypeError: always; Python's own class for what cannot be pickled.
        """
        raise TypeError(
            f"{type(self).__name__} cannot be pickled or copied: it has connections and counts of this process. "
            "Make a Mesh in the other process, best at module level, and pass names of services instead"
        )
