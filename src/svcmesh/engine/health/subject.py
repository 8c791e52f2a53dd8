"""One endpoint that is checked, and how far its checks are."""

from __future__ import annotations

import asyncio

from svcmesh.core.clock import Timer
from svcmesh.engine.member import Member
from svcmesh.policy.health.checked import Checked


class Subject:
    """An endpoint that is checked. Threads: but for `checked`, the worker's loop.

    Attributes:
        checked: what is known of it. begun: it has had its first turn, or waits for it. timer: what it waits for.
        task: the check that is under way, since ``began``. late: its time is over. left: the endpoint is no more.
    """

    __slots__ = ("began", "begun", "checked", "late", "left", "member", "task", "timer")

    def __init__(self, member: Member, *, waits: bool, counts: bool) -> None:
        self.member = member
        self.checked = Checked(waits=waits, counts=counts)
        self.timer: Timer | None = None
        self.task: asyncio.Task[bool] | None = None
        self.began = 0.0
        self.begun = self.late = self.left = False

    def cut_off(self) -> None:
        """End a check whose time is over."""
        if self.task is not None:
            self.late = True
            self._cancel()

    def end(self) -> None:
        """End all there is to it."""
        self.left = True
        if self.timer is not None:
            self.timer.cancel()
        self._cancel()

    def _cancel(self) -> None:
        """Cancel the check that is under way, once: a second time would disturb how it cleans up."""
        if self.task is not None and not self.task.cancelling():
            self.task.cancel()
