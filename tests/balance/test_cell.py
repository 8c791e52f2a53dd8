"""Cells count in totals that only grow, so that several threads may count without a lock."""

from __future__ import annotations

import dis
import sys
import threading

from svcmesh import Endpoint
from svcmesh.balance.cell import Cell


def test_in_flight_is_the_difference_of_the_totals():
    cell = Cell(Endpoint("a:1"))
    cell.started += 3
    cell.finished += 1

    assert cell.in_flight == 2


def test_nothing_between_the_load_and_the_store_of_a_count_gives_up_the_gil():
    """The interpreter looks whether it has to at calls, backward jumps and where a function begins or goes on."""

    def count(cell):
        cell.started += 1

    names = [instruction.opname for instruction in dis.get_instructions(count)]
    between = names[names.index("LOAD_ATTR") : names.index("STORE_ATTR")]

    assert "BINARY_OP" in between
    assert not [name for name in between if name.startswith(("CALL", "JUMP_BACKWARD", "RESUME", "YIELD", "SEND"))]


def test_no_update_is_lost_between_threads():
    """Sixteen threads count up, with the interpreter switching as often as it can."""
    cell, interval = Cell(Endpoint("a:1")), sys.getswitchinterval()

    def work():
        for _ in range(5_000):
            cell.started += 1
            cell.finished += 1

    threads = [threading.Thread(target=work) for _ in range(16)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    assert (cell.started, cell.finished) == (80_000, 80_000)
