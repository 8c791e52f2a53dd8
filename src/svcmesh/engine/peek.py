"""Whom a call would go to now, for somebody who only looks: the view's picker once more, with turns of its own.

Pickers that go round move on whenever they are asked. Were looks and calls served by one of them, two endpoints and a
look before each call would be enough to send every call to the same one.

The first look makes such a mirror, and from then on each change of the endpoints makes one beside the new picker. So
looks wait neither for a lock nor for thousands of endpoints that are just being sorted.
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

    Cost: a pick; for the first look, that of building a picker. Balancers by key have no turns, and their tables serve
    calls and looks alike.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self._tables = bool(getattr(view.selection.balancer, "slow", Configuration.slow))

    def choose(self, key: int | None) -> Cell | None:
        """Return whom a call with this key would go to; None when there is nobody."""
        picker = self.view.picker if self._tables else self.view.selection.plan.mirror or self._first()
        return picker.choose_from(key, ())

    def _first(self) -> Picker:
        """Make the first mirror by a selection of our own, so that the one of the calls stays as it is."""
        view = self.view
        with view.cluster.lock:
            mirror = view.selection.plan.mirror
            if mirror is None:
                own = Selection(view.policy, view.runtime, lambda: view.cluster.lock, view.cluster.rebuild)
                now, failing, degraded = view.clock.now(), view.failing(), view.degraded()
                own.update(view.members(), view.ejections(), self._is_open, now, failing, degraded)
                mirror = own.plan.picker
                view.selection.mirror_by(mirror)
            return mirror

    def _is_open(self, member: Member) -> bool:
        return any(breaker.state == "open" for breaker in self.view.breakers.of(member))
