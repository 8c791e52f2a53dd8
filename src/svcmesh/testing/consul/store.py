"""What the servers of a fake Consul know: nodes, services, checks, and the index at which each last changed.

Indexes are what clients get wrong, so they are the real ones: one counter for everything that is written; a service
has the index of the last change of itself, its instances, its checks or the node under one; a service that is gone has
that of the last one that went; writing what is there already changes nothing.

Source: Consul's `agent/consul/state` (`maxIndexForService`, `ensureServiceTxn`, `ensureCheckTxn`).
"""

from __future__ import annotations

import asyncio
import copy
from typing import Any

Record = dict[str, Any]


class Store:
    """The catalogue. Threads: one loop."""

    def __init__(self) -> None:
        self.index = 10
        self.restored = 0  # how often `rewind` was called
        self.nodes: dict[str, Record] = {}
        self.services: dict[tuple[str, str], Record] = {}
        self.checks: dict[tuple[str, str], Record] = {}
        self._of_service: dict[str, int] = {}
        self._services_index = self._checks_index = self._gone_index = 1
        self._changed = asyncio.Event()

    # -- reading ---------------------------------------------------------------------------------------------------

    def service_index(self, name: str) -> int:
        """Return the index of one service, whether it is there or not."""
        return min(self.index, self._of_service.get(name, self._gone_index))

    @property
    def services_index(self) -> int:
        """The index of the list of services."""
        return min(self.index, self._services_index)

    @property
    def checks_index(self) -> int:
        """The index of all checks."""
        return min(self.index, self._checks_index)

    def instances(self, name: str) -> list[Record]:
        """Return ``{Node, Service, Checks}`` of every instance of a service."""
        return [
            {
                "Node": copy.deepcopy(self.nodes[node]),
                "Service": copy.deepcopy(service),
                "Checks": [
                    copy.deepcopy(check)
                    for (owner, _), check in self.checks.items()
                    if owner == node and check["ServiceID"] in {"", service_id}
                ],
            }
            for (node, service_id), service in self.services.items()
            if service["Service"] == name
        ]

    async def changed(self) -> None:
        """Return when anything is written."""
        await self._changed.wait()

    def wake(self) -> None:
        """End all waits for a change; those to come may be on another loop."""
        self._changed.set()
        self._changed = asyncio.Event()

    # -- writing ---------------------------------------------------------------------------------------------------

    def put_node(self, node: Record) -> None:
        """Write a node, by its name."""
        name = node["Node"]
        if _same(self.nodes.get(name), node):
            return
        self.nodes[name] = _stamped(node, self.nodes.get(name), self._next())
        self._touch(*self._on(name))

    def put_service(self, node: str, service: Record) -> None:
        """Write an instance, by its node and id."""
        key = (node, service["ID"])
        old = self.services.get(key)
        if _same(old, service):
            return
        self.services[key] = _stamped(service, old, self._next())
        self._services_index = self.index
        names = {service["Service"]} | ({old["Service"]} if old else set())
        self._touch(*names)

    def put_check(self, node: str, check: Record) -> None:
        """Write a check, by its node and id."""
        key = (node, check["CheckID"])
        if _same(self.checks.get(key), check):
            return
        self.checks[key] = _stamped(check, self.checks.get(key), self._next())
        self._touch_check(node, check)

    def drop_service(self, node: str, service_id: str) -> None:
        """Remove an instance and its checks."""
        service = self.services.pop((node, service_id), None)
        for key in [k for k, check in self.checks.items() if k[0] == node and check["ServiceID"] == service_id]:
            self.drop_check(*key)
        if service is None:
            return
        self._services_index = self._next()
        name = service["Service"]
        if any(other["Service"] == name for other in self.services.values()):
            self._touch(name)
        else:
            self._of_service.pop(name, None)
            self._gone_index = self.index

    def drop_check(self, node: str, check_id: str) -> None:
        """Remove a check."""
        check = self.checks.pop((node, check_id), None)
        if check is not None:
            self._next()
            self._touch_check(node, check)

    def drop_node(self, name: str) -> None:
        """Remove a node and everything on it."""
        for node, service_id in [key for key in self.services if key[0] == name]:
            self.drop_service(node, service_id)
        for node, check_id in [key for key in self.checks if key[0] == name]:
            self.drop_check(node, check_id)
        if self.nodes.pop(name, None) is not None:
            self._next()

    def bump(self) -> None:
        """Move every index, and change nothing: what old servers did on each write anywhere."""
        self._next()
        self._services_index = self._checks_index = self._gone_index = self.index
        self._touch(*self._of_service)

    def rewind(self, index: int) -> None:
        """Set the index back, as a restored snapshot does: all that is there is as old as that, and held calls end."""
        self.index = index
        self.restored += 1
        self._services_index = self._checks_index = self._gone_index = index
        self._of_service = dict.fromkeys(self._of_service, index)
        self.wake()

    def _on(self, node: str) -> set[str]:
        return {service["Service"] for (owner, _), service in self.services.items() if owner == node}

    def _touch_check(self, node: str, check: Record) -> None:
        self._checks_index = self.index
        self._touch(*({check["ServiceName"]} if check["ServiceID"] else self._on(node)))

    def _touch(self, *names: str) -> None:
        self._of_service.update(dict.fromkeys(names, self.index))

    def _next(self) -> int:
        self.index += 1
        self.wake()
        return self.index


def _same(old: Record | None, new: Record) -> bool:
    return old is not None and {k: v for k, v in old.items() if k not in {"CreateIndex", "ModifyIndex"}} == new


def _stamped(new: Record, old: Record | None, index: int) -> Record:
    created = index if old is None else old["CreateIndex"]
    return {**copy.deepcopy(new), "CreateIndex": created, "ModifyIndex": index}
