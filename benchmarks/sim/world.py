"""A world of clients and servers in virtual time: what a way to choose comes to when many go by it, each alone.

Calls come open loop: as often as they come, whether or not earlier ones have been answered, since callers do not wait
for each other. Each client has a picker of its own, and knows only what happened to its own calls. A server works on a
few calls at a time, and the others wait in its queue.

Arrivals, and the work in each call, are drawn from one seed, and are the same whichever picker is looked at.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapreplace

from svcmesh import Endpoint
from svcmesh.balance import LoadBalancer
from svcmesh.balance.picker import Picker
from svcmesh.testing.sim import Kernel

NORMAL, SLOW, FAILING = "normal", "slow", "failing"


@dataclass(frozen=True, kw_only=True)
class World:
    """What is simulated; seconds throughout.

    Attributes:
        calls: in all. clients: who make them, each as likely as another. servers: how many, `slow` and `failing` ones
            among them.
        work: what a call takes at a normal server, on average; exponential.
        slowness: how many times that it takes at a slow one.
        failure: what a failing server takes to refuse, always, whatever waits there.
        load: the part of a normal server's capacity that is used when all servers get equal shares, from 0 to 1.
        workers: calls that a server works on at a time.
    """

    calls: int = 600_000
    clients: int = 1_000
    servers: int = 100
    slow: int = 5
    failing: int = 1
    work: float = 0.010
    slowness: float = 10.0
    failure: float = 0.001
    load: float = 0.7
    workers: int = 4
    seed: int = 1

    @property
    def rate(self) -> float:
        """Calls a second, of all clients."""
        return self.load * self.servers * self.workers / self.work

    def kind(self, number: int) -> str:
        """Return what kind of server one is: the slow ones come first, then the failing ones."""
        return SLOW if number < self.slow else FAILING if number < self.slow + self.failing else NORMAL


@dataclass(slots=True)
class Found:
    """What came of it.

    Attributes:
        seconds: what each answered call took, in no order. taken: calls by number of the server. failed: calls.
    """

    seconds: list[float] = field(default_factory=list)
    taken: Counter[int] = field(default_factory=Counter)
    failed: int = 0

    def quantile(self, part: float) -> float:
        """Return the time that this part of the answered calls took at most."""
        ordered = self.seconds
        ordered.sort()
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    def share(self, world: World, kind: str) -> float:
        """Return the part of all calls that the servers of one kind got."""
        return sum(self._taken_by(world, kind)) / world.calls

    def most(self, world: World, kind: str) -> float:
        """Return what the busiest server of one kind got, as a multiple of an even share of all calls."""
        return max(self._taken_by(world, kind)) * world.servers / world.calls

    def _taken_by(self, world: World, kind: str) -> list[int]:
        return [self.taken[number] for number in range(world.servers) if world.kind(number) == kind]


class _Server:
    """A queue before a few workers, in the order of arrival; a failing one answers at once."""

    def __init__(self, world: World, number: int) -> None:
        kind = world.kind(number)
        self.number = number
        self.failing = kind == FAILING
        self._pace = world.slowness if kind == SLOW else 1.0
        self._failure = world.failure
        self._free = [0.0] * world.workers

    def answers_at(self, now: float, work: float) -> float:
        """Take a call, and return when its answer comes: the first worker to be free works on it."""
        if self.failing:
            return now + self._failure
        ends = max(now, self._free[0]) + work * self._pace
        heapreplace(self._free, ends)
        return ends


def simulate(world: World, balancer: LoadBalancer) -> Found:
    """Let all clients go by ``balancer``; return what came of it once the last call has been answered."""
    kernel, chance, found = Kernel(), random.Random(world.seed), Found()
    servers = {f"10.0.0.{n + 1}:80": _Server(world, n) for n in range(world.servers)}
    pickers = _pickers(world, balancer, list(servers), kernel)
    keyed = bool(getattr(balancer, "affinity", False))
    left = world.calls

    def arrive() -> None:
        nonlocal left
        picker, work = pickers[int(chance.random() * len(pickers))], chance.expovariate(1 / world.work)
        key = chance.getrandbits(64)
        endpoint = picker.pick(key if keyed else None)
        assert endpoint is not None
        picker.started(endpoint)
        server, now = servers[endpoint.address], kernel.now()
        ends = server.answers_at(now, work)
        found.taken[server.number] += 1
        kernel.at(ends, _end(picker, endpoint, ends - now, server, found))
        left -= 1
        if left:
            kernel.after(chance.expovariate(world.rate), arrive)

    kernel.at(0.0, arrive)
    kernel.run()
    return found


def _pickers(world: World, balancer: LoadBalancer, addresses: list[str], kernel: Kernel) -> list[Picker]:
    """Return a picker for each client; one for all where they would be equal, as tables for keys are."""
    endpoints = [Endpoint(address) for address in addresses]
    made = 1 if getattr(balancer, "slow", False) else world.clients
    return [balancer.picker(endpoints, rng=random.Random(f"{world.seed} {n}"), clock=kernel) for n in range(made)]


def _end(picker: Picker, endpoint: Endpoint, seconds: float, server: _Server, found: Found) -> Callable[[], None]:
    def end() -> None:
        picker.finished(endpoint, seconds, server.failing)
        if server.failing:
            found.failed += 1
        else:
            found.seconds.append(seconds)

    return end
