"""Whom a call would go to now, for somebody who only looks: the view's picker once more, with turns of its own.

Pickers that go round move on whenever they are asked. Were looks and calls served by one of them, two endpoints and a
look before each call would be enough to send every call to the same one.
"""

from __future__ import annotations

from svcmesh.balance.cell import Cell
from svcmesh.balance.configuration import Configuration
from svcmesh.balance.picker import Picker
from svcmesh.engine.member import Member
from svcmesh.engine.selection import Selection
from svcmesh.engine.view import View


class Peek:
    """Looks at what a view would choose. Threads: any.

    Cost: after a change of the endpoints, the first look builds a picker, but no table for keys: those have no turns,
    and serve calls and looks alike.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._tables = bool(getattr(view.selection.balancer, "slow", Configuration.slow))
        self._selection = Selection(view.policy, view.runtime, lambda: view.cluster.lock, view.cluster.rebuild)
        self._like: Picker | None = None

    def choose(self, key: int | None) -> Cell | None:
        """Return whom a call with this key would go to; None when there is nobody."""
        picker = self._view.picker if self._tables else self._own_picker()
        return picker.choose_from(key, ())

    def _own_picker(self) -> Picker:
        view = self._view
        with view.cluster.lock:
            if self._like is not view.picker:  # there have been changes
                self._like = view.picker
                self._selection.update(view.members(), view.ejections(), self._is_open, view.clock.now())
            return self._selection.plan.picker

    def _is_open(self, member: Member) -> bool:
        return any(breaker.state == "open" for breaker in self._view.breakers_of(member))
