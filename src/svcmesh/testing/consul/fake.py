"""`FakeConsul`: a Consul of one agent and one server in a thread, for tests of whatever speaks to Consul."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from svcmesh.core.address import join_address
from svcmesh.core.clock import SYSTEM, Clock
from svcmesh.core.errors import ConfigError
from svcmesh.testing.consul.agent import Agent, check_record, service_record
from svcmesh.testing.consul.answers import Request
from svcmesh.testing.consul.dns_answers import DnsAnswers
from svcmesh.testing.consul.dns_wire import DnsWire
from svcmesh.testing.consul.faults import Fault
from svcmesh.testing.consul.reads import Reads
from svcmesh.testing.consul.rights import Rights
from svcmesh.testing.consul.routes import Routes
from svcmesh.testing.consul.store import Store
from svcmesh.testing.consul.wire import Wire

T = TypeVar("T")


class FakeConsul:
    """A real server that behaves as Consul does: health, catalogue, agent, checks, blocking queries, ACLs, faults, DNS.

    Args:
        host, port: where it listens; port 0 takes a free one, which is kept over `stop` and `start`.
        socket: listen on this unix socket instead.
        dns_port: answer DNS on this port of ``host``, by UDP and TCP; 0 takes a free one; default: do not.
        dns_truncate: say of DNS answers that were cut that they were, as with Consul's ``enable_truncate``.
        clock: what TTLs of checks and their reaping are measured by; default the system's. With a `FakeClock`, advance
            it to let a check expire.
        datacenter, node: what it calls itself.
        tls: serve TLS with this context.
        max_connections: open connections above which one is answered 429, as Consul does per client.

    It is started when it is made and stopped at the end of a ``with`` block, or by `stop`. Threads: any.

    Example:
        >>> with FakeConsul() as consul:
        ...     consul.register("orders", port=8080)
        ...     # svcmesh.Mesh(consul.uri).service("orders")
        'orders'
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        socket: str | None = None,
        dns_port: int | None = None,
        dns_truncate: bool = False,
        clock: Clock | None = None,
        datacenter: str = "dc1",
        node: str = "fake",
        tls: ssl.SSLContext | None = None,
        max_connections: int = 200,
    ) -> None:
        self.host = host
        self.port = port
        self._socket = socket
        self._tls = tls
        store, self._rights = Store(), Rights()
        self._agent = Agent(store, SYSTEM if clock is None else clock, node, host, datacenter)
        self._reads = Reads(store, self._rights, node, datacenter)
        self._wire = Wire(Routes(self._agent, self._reads, self._rights), max_connections)
        self._dns = None
        if dns_port is not None:
            self._dns = DnsWire(DnsAnswers(self._reads, truncate=dns_truncate), host, dns_port)
        self._store = store
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self.start()

    @property
    def address(self) -> str:
        """``host:port``, as CONSUL_HTTP_ADDR has it; ``unix:///path`` for a socket."""
        return join_address(self.host, self.port) if self._socket is None else f"unix://{self._socket}"

    @property
    def dns_address(self) -> str:
        """``host:port`` of the name server, for `dns://` and `dns+srv://`.

        Raises:
            ConfigError: it was made without ``dns_port``.
        """
        if self._dns is None:
            raise ConfigError("this FakeConsul answers no DNS; make it with dns_port=0")
        return join_address(self.host, self._dns.port)

    @property
    def uri(self) -> str:
        """The discovery URI that leads here."""
        if self._socket is not None:
            return f"consul+unix://{self._socket.replace('/', '%2F')}"
        return f"consul{'' if self._tls is None else '+https'}://{self.address}"

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Serve (again), at the same address, with everything that was known."""
        if self._thread is not None:
            return
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-consul", daemon=True)
        self._thread.start()
        try:
            self._await(self._listen)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Break all connections and stop listening; what is registered is kept. Harmless when repeated."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._await(self._end)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        self._loop = self._thread = None

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    # -- what is in it ---------------------------------------------------------------------------------------------

    def register(
        self,
        name: str,
        *,
        port: int,
        id: str | None = None,  # noqa: A002 - Consul's word
        address: str = "127.0.0.1",
        status: str = "passing",
        node: str | None = None,
        **fields: Any,
    ) -> str:
        """Put an instance into the catalogue with one check of this status, or change it; return its id.

        Args:
            name, port, address: of the service. id: default its name and port.
            status: passing, warning, critical, or "" for no check at all.
            node: on which node; another one than the agent's is made at need.
            fields: other fields of a registration: ``Tags``, ``Meta``, ``Weights``, ``TaggedAddresses``, …

        Raises:
            HttpError: what Consul would refuse.
        """
        service_id, on = id or f"{name}-{port}", node or self._agent.node
        service = service_record({"Name": name, "ID": service_id, "Port": port, "Address": address, **fields})

        def put() -> None:
            if on not in self._store.nodes:
                self._store.put_node({"Node": on, "Address": address, "Datacenter": self._agent.datacenter, "Meta": {}})
            self._store.put_service(on, service)
            check_id = f"service:{service_id}"
            if status:
                self._store.put_check(on, check_record(on, check_id, "check", status, "", service))
            else:
                self._store.drop_check(on, check_id)

        self.call(put)
        return service_id

    def deregister(self, service_id: str, *, node: str | None = None) -> None:
        """Remove an instance."""
        self.call(lambda: self._store.drop_service(node or self._agent.node, service_id))

    def set_status(self, service_id: str, status: str) -> None:
        """Set the status of the check of an instance on the agent's node."""

        def put() -> None:
            service = self._agent.service(service_id)
            record = check_record(self._agent.node, f"service:{service_id}", "check", status, "", service)
            self._store.put_check(self._agent.node, record)

        self.call(put)

    def maintain(self, service_id: str | None, *, enable: bool = True, reason: str = "") -> None:
        """Put a service, or with None the node, under maintenance, or end it."""
        self.call(lambda: self._agent.maintain(service_id, enable=enable, reason=reason))

    def set_node(self, name: str | None = None, **fields: Any) -> None:
        """Write fields of a node: ``Address``, ``Meta``, ``TaggedAddresses``; default the agent's own."""
        node = name or self._agent.node
        default = {"Node": node, "Address": self.host, "Datacenter": self._agent.datacenter, "Meta": {}}

        def put() -> None:
            known = {k: v for k, v in self._store.nodes.get(node, default).items() if not k.endswith("Index")}
            self._store.put_node({**known, **fields})

        self.call(put)

    def fail_node(self, *, alive: bool = False) -> None:
        """Let the agent's node count as failed (its ``serfHealth`` is critical), or as alive again."""
        node = self._agent.node
        status = "passing" if alive else "critical"
        record = check_record(node, "serfHealth", "Serf Health Status", status, "")
        self.call(lambda: self._store.put_check(node, record))

    def instances(self, name: str) -> list[dict[str, Any]]:
        """Return ``{Node, Service, Checks}`` of every instance of a service, as the catalogue has it."""
        return self.call(lambda: self._store.instances(name))

    def query(self, name: str, service: str, **fields: Any) -> None:
        """Make a prepared query that is called ``name``; ``fields`` are those of its ``Service``."""
        body = {"Name": name, "Service": {"Service": service, **fields}}
        self.call(lambda: self._reads.queries.update({name: body}))

    def elsewhere(self, datacenter: str, service: str, entries: Iterable[dict[str, Any]]) -> None:
        """Set what another datacenter knows of a service."""
        self.call(lambda: self._reads.peers.update({(datacenter, service): list(entries)}))

    def allow(self, tokens: Mapping[str, Iterable[str]] | None) -> None:
        """Switch ACLs on, with these rights by token ("" is who sends none), or with None off.

        A right is ``service:read``, ``service:write``, ``node:read``, or one for a name: ``service:read:orders``.
        """
        self.call(lambda: self._rights.set(tokens))

    # -- what goes wrong -------------------------------------------------------------------------------------------

    def fault(self, kind: str, path: str = "*", times: int | None = None) -> None:
        """Answer wrongly from now on; see `svcmesh.testing.consul.faults.KINDS`.

        Args:
            kind: what to do. path: a pattern of paths (``/v1/health/*``). times: how often; None: until `heal`.

        Raises:
            ConfigError: there is no such kind.
        """
        fault = Fault(kind, path, times)
        self.call(lambda: self._wire.faults.append(fault))

    def heal(self) -> None:
        """Take all faults back."""
        self.call(self._wire.faults.clear)

    def lose_registrations(self) -> None:
        """Forget what was registered with the agent, as one does that is replaced."""
        self.call(self._agent.lose)

    def rewind(self, index: int = 5) -> None:
        """Set the index back, as a restored snapshot does; questions that are held are answered."""
        self.call(lambda: self._store.rewind(index))

    def bump(self) -> None:
        """Move all indexes and change nothing."""
        self.call(self._store.bump)

    def break_connections(self) -> None:
        """Break all connections that are open, and go on listening."""
        self._await(self._wire.stop)

    def set_last_contact(self, seconds: float) -> None:
        """Say for how long the server has not heard of its leader."""
        self._reads.last_contact = round(seconds * 1000)

    # -- what was asked --------------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[Request]:
        """Everything that was asked since it was made, in order; a copy."""
        return list(self._wire.requests)

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return self._wire.open

    @property
    def most_connections(self) -> int:
        """The most connections that were open at a time."""
        return self._wire.most

    def call(self, function: Callable[[], T]) -> T:
        """Run ``function`` where nothing else touches the state; also while it is stopped."""

        async def run() -> T:
            return function()

        return function() if self._loop is None else self._await(run)

    def _await(self, work: Callable[[], Awaitable[T]]) -> T:
        assert self._loop is not None  # noqa: S101 - only called while it runs
        done: Future[T] = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)
        return done.result(10.0)

    async def _listen(self) -> None:
        if self._socket is not None:
            self._server = await asyncio.start_unix_server(self._wire.connected, self._socket, ssl=self._tls)
        else:
            self._server = await asyncio.start_server(
                self._wire.connected, self.host, self.port, ssl=self._tls, backlog=512
            )
            self.port = self._server.sockets[0].getsockname()[1]
        if self._dns is not None:
            await self._dns.listen()
        if self._agent.node not in self._store.nodes:
            self._agent.join()
        self._agent.wake()
        self._store.wake()

    async def _end(self) -> None:
        if self._server is not None:
            for listening in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            for _ in range(_STEPS_TO_BEGIN):
                await asyncio.sleep(0)
            self._server.close()
        if self._dns is not None:
            self._dns.close()
        self._agent.close()
        await self._wire.stop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


_STEPS_TO_BEGIN = 5
"""Of the loop, in which a connection that was just accepted comes to be served: asyncio loses it, open, if its server
is closed before that (an AssertionError in base_events.Server._attach)."""


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
