"""A registry whose registrations are kept by an object of their own: it passes on what it is asked as a registrar."""

from __future__ import annotations

from svcmesh.discovery.base import Announcement, Registrar


class Registering:
    """The registrar's side of a backend. Threads: as the backend's."""

    def __init__(self, registrations: Registrar) -> None:
        self._registrations = registrations

    async def register(self, announcement: Announcement) -> None:
        """Announce, or announce again."""
        await self._registrations.register(announcement)

    async def heartbeat(self, announcement: Announcement) -> bool | None:
        """Say that the process is alive; return True where it had to be registered again."""
        return await self._registrations.heartbeat(announcement)

    async def deregister(self, announcement: Announcement) -> None:
        """Take it back."""
        await self._registrations.deregister(announcement)

    async def drain(self, announcement: Announcement) -> None:
        """Ask callers to send nothing new."""
        await self._registrations.drain(announcement)
