"""Cells count in totals that only grow, so that several threads may count without a lock."""

from __future__ import annotations

import sys
import threading

from svcmesh import Endpoint
from svcmesh.balance.cell import Cell


def test_in_flight_is_the_difference_of_the_totals():
    cell = Cell(Endpoint("a:1"))
    cell.started += 3
    cell.finished += 1

    assert cell.in_flight == 2


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
