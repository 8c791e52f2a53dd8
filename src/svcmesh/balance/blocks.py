"""Going through thousands of endpoints without waiting for memory: a block of them at a time.

Whoever is handed an object counts a reference in it, and of thousands of objects most are in no cache near the
processor. Each pick would then wait for memory, for longer than all the rest of it takes, unless the objects lie there
in the order in which they are picked; and endpoints that come and go soon do not. Python cannot ask for memory ahead.
But a slice of a list counts a reference in every object of it in one short loop, and there the processor waits for many
of them at once. The picks after it find them at hand, as they would find three.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

MANY = 256
"""From so many on. Fewer stay in the caches."""

BLOCK = 256
"""How many at a time, at least: enough to share what beginning a block costs, and few enough to be at hand still when
their turn comes."""


@lru_cache(maxsize=16)
def blocks(size: int) -> tuple[slice, ...]:
    """Return the slices by which ``size`` places are gone through, nearly equal in length; one, where there are few.

    They are remembered: each change of many endpoints asks for those of about as many, and to make them sets off a
    collection of garbage, just when the lists of these endpoints are young.
    """
    count = max(1, size // BLOCK)
    return tuple([slice(begin, end) for begin, end in pairwise(size * number // count for number in range(count + 1))])
