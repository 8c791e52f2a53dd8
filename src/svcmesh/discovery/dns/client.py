"""Asking name servers: dnspython does it, on sockets of the loop.

dnspython draws identifiers, waits for the right answer among wrong ones, goes on to the next server, follows aliases,
appends search domains, and repeats by TCP what UDP cut off. What is added here is what a service needs of it: EDNS, so
that little is cut off; the question without EDNS for a server that does not know it; and one kind of error, whatever a
server sent.

dnspython is imported with the first question: it takes longer to load than the rest of svcmesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from svcmesh.core.clock import heed_cancellation
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.dns.hosts import listed
from svcmesh.discovery.dns.question import PORT, Question
from svcmesh.discovery.dns.records import AAAA, SRV, TXT, TYPES, A, Reply, read

TIMEOUT = 2.0
"""Seconds that one server is given for one answer."""

LIFETIME = 5.0
"""Seconds that a question may take, over all servers and repetitions."""

PAYLOAD = 1232
"""Bytes that an answer by UDP may have: what no path breaks into pieces (DNS Flag Day 2020)."""

_WORDS = {A: "A", AAAA: "AAAA", SRV: "SRV", TXT: "TXT"}
_TOLD = 300  # characters of dnspython's text that an error shows


class Client:
    """Asks the name servers of one question, for as long as one watch lasts.

    Args:
        question: whom to ask, and how.
        resolver: a `dns.asyncresolver.Resolver` to ask by, instead of one made of the question and the system's
            settings.

    The system's settings are read when the first question is asked.
    """

    def __init__(self, question: Question, resolver: Any = None) -> None:
        self._question = question
        self._resolver = resolver

    async def ask(self, name: str, kind: int) -> Reply:
        """Return what name servers say of ``name``; that it does not exist is an answer, too.

        Args:
            name: what to look up. kind: the type of its records.

        Raises:
            DiscoveryError: nobody answers, or not what can be understood; ``name`` cannot be a name.
        """
        import dns.resolver

        subject = _name(name)
        resolver = await self._opened()
        try:
            try:
                response = await self._response(resolver, subject, kind)
            except dns.resolver.NoNameservers as error:
                if resolver.edns < 0 or not _without_edns(error):
                    raise
                resolver.use_edns(-1)
                response = await self._response(resolver, subject, kind)
            heed_cancellation()  # Python 3.11's wait_for, by which dnspython waits, loses one that comes with an answer
            return read(response, kind)
        except Exception as error:  # noqa: BLE001 - a server decides what dnspython stumbles over
            raise DiscoveryError(self._told(resolver, name, kind, error)) from None

    async def _response(self, resolver: Any, subject: Any, kind: int) -> Any:
        import dns.asyncbackend
        import dns.resolver

        try:
            answer = await resolver.resolve(
                subject,
                kind,
                tcp=self._question.tcp,
                raise_on_no_answer=False,
                search=bool(self._question.search),
                backend=dns.asyncbackend.get_backend("asyncio"),
            )
        except dns.resolver.NXDOMAIN as error:
            responses: dict[Any, Any] = error.kwargs["responses"]
            return list(responses.values())[-1]
        return answer.response

    async def _opened(self) -> Any:
        if self._resolver is None:
            self._resolver = resolver_for(self._question, await _addresses_of(self._question.servers))
        return self._resolver

    def _told(self, resolver: Any, name: str, kind: int, error: Exception) -> str:
        servers = self._question.servers
        asked = ", ".join(f"{host}:{port}" for host, port in servers) or ", ".join(map(str, resolver.nameservers))
        why = " ".join(str(error).split())[:_TOLD] or type(error).__name__
        return f"DNS: no answer for {name!r} ({_WORDS.get(kind, kind)}) from {asked}: {why}"


def resolver_for(question: Question, servers: Sequence[tuple[str, int]]) -> Any:
    """Return a `dns.asyncresolver.Resolver` for ``question``.

    Args:
        question: whose search list and way of asking it takes over.
        servers: IP addresses and ports; none: the system's.

    Raises:
        DiscoveryError: the system's settings are needed, and there are none.
    """
    import dns.asyncresolver
    import dns.name
    import dns.nameserver
    import dns.resolver

    try:
        resolver = dns.asyncresolver.Resolver(configure=not servers or question.search == ("",))
    except dns.resolver.NoResolverConfiguration as error:
        raise DiscoveryError(f"{error}: name the server in the URI, as in dns://10.0.0.2/…") from None
    if servers:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in servers]
    if question.search not in {(), ("",)}:
        resolver.search = [_name(domain).concatenate(dns.name.root) for domain in question.search]
    resolver.timeout, resolver.lifetime = TIMEOUT, LIFETIME
    resolver.use_edns(0, 0, PAYLOAD)
    return resolver


async def _addresses_of(servers: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the IP addresses of name servers; those that have a name are looked up as the system does it.

    Raises:
        DiscoveryError: there is none.
    """
    import dns.inet

    found: list[tuple[str, int]] = []
    for host, port in servers:
        if dns.inet.is_address(host):
            found.append((host, port))
            continue
        addresses = listed(host)
        if not addresses:
            client = Client(Question(host, PORT))
            addresses = [*(await client.ask(host, TYPES[4])).addresses, *(await client.ask(host, TYPES[6])).addresses]
        found.extend((address, port) for address in addresses)
    if servers and not found:
        raise DiscoveryError(f"no name server is known by {', '.join(repr(host) for host, _ in servers)}")
    return found


def _name(text: str) -> Any:
    """Return ``text`` as dnspython's name; backslashes would be escapes, and no host has them.

    Raises:
        DiscoveryError: it cannot be one.
    """
    import dns.name

    try:
        if not text or "\\" in text:
            raise ValueError("it is empty, or holds a backslash")
        return dns.name.from_text(text, None)
    except Exception as error:  # noqa: BLE001 - of labels too long or empty, and of IDNA's many
        raise DiscoveryError(f"{text[:80]!r} is no name that DNS knows: {error}") from None


def _without_edns(error: Any) -> bool:
    """Whether a server said that it does not understand the question: perhaps it is older than EDNS (RFC 6891, 7)."""
    import dns.rcode

    old = {dns.rcode.FORMERR, dns.rcode.NOTIMP}
    return any(response is not None and response.rcode() in old for *_, response in error.kwargs.get("errors", ()))
