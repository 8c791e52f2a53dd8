"""A record of a run that never was, for whatever shows records."""

from __future__ import annotations

from svcmesh.cli.demo.record import AttemptDone, CallDone, Mark, Record

LENGTH = 10.0


class Now:
    """A clock that stands where it is put."""

    def __init__(self, seconds: float = 100.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


def sample(now: Now | None = None, *, failures: int = 0) -> Record:
    """Return ten seconds of 20 calls a second by two protocols, to two Greeters and one order service.

    greeter-1 stops after five seconds and is ejected then; ``failures`` calls fail in the last second.
    """
    now = now or Now()
    record = Record(now)
    record.addresses = {
        "greeter-1": ("greeter", "127.0.0.1:1001"),
        "greeter-2": ("greeter", "127.0.0.1:1002"),
        "orders-1": ("orders", "127.0.0.1:2001"),
    }
    for index in range(100):
        at = index / 10
        name = "greeter-1" if at < 5 and index % 2 else "greeter-2"
        record.calls += [CallDone(at, "gRPC", 0.002), CallDone(at, "HTTP", 0.004)]
        record.attempts += [
            AttemptDone(at, "greeter", name, 0.001, True),
            AttemptDone(at, "orders", "orders-1", 0.003, True),
        ]
    record.calls += [CallDone(9.5, "gRPC", 1.0, f"RpcError: <broken> & {index}") for index in range(failures)]
    record.marks = [Mark(0.1, "act", "steady"), Mark(5.0, "act", "SIGKILL"), Mark(5.2, "ejected", "greeter-1")]
    now.seconds += LENGTH
    return record
