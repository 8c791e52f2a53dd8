"""An endpoint before the weights of all localities are known: of a message, or straight of a plain value.

What is plain could be made a message first, and is, where anything in it is out of the ordinary. But to make messages
of ten thousand plain values takes several times as long as all else together, and nearly all say the same few things.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from svcmesh.core.address import check_address, join_address
from svcmesh.core.endpoint import Endpoint, Health
from svcmesh.core.errors import ConfigError

if TYPE_CHECKING:
    from svcmesh._proto import svcmesh_xds_pb2 as wire

_UNHEALTHY = Health.UNHEALTHY  # a look at a member of an enumeration takes its time
_HEALTH: Mapping[int, Health] = {0: Health.HEALTHY, 1: Health.HEALTHY, 5: Health.DEGRADED}
_DRAINING = 3
_STATUSES: Mapping[str, Health] = {
    "UNKNOWN": Health.HEALTHY,
    "HEALTHY": Health.HEALTHY,
    "UNHEALTHY": _UNHEALTHY,
    "DRAINING": _UNHEALTHY,
    "TIMEOUT": _UNHEALTHY,
    "DEGRADED": Health.DEGRADED,
}
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_SUBSETS = "envoy.lb"  # the filter whose metadata describe an endpoint to balancers
_FIELDS = frozenset({"endpoint", "health_status", "load_balancing_weight", "metadata"})
_SOCKETS = ({"address", "port_value"}, {"address", "port_value", "protocol"})
_HEAVIEST = 2**32 - 1


class Candidate:
    """What is listed of one endpoint.

    Attributes:
        address: where it is. weight: in its locality. health, metadata: what else is said.
        draining: it finishes its calls, and is to be given none.
        made: the endpoint that was made of it last. where: what went into that besides.
    """

    __slots__ = ("address", "draining", "health", "made", "metadata", "weight", "where")

    def __init__(
        self, address: str, weight: int, health: Health, metadata: Mapping[str, Any], *, draining: bool = False
    ) -> None:
        self.address = address
        self.weight = weight
        self.health = health
        self.metadata = metadata
        self.draining = draining
        self.made: Endpoint | None = None
        self.where: object = None


Candidates = dict[bytes, Candidate]
"""What messages have said, by their bytes."""


class Unusual(Exception):
    """A plain value says more than nearly all do, or says it in another way: make it a message."""


def candidate_of(one: wire.LbEndpoint) -> Candidate:
    """Return what a message says.

    Raises:
        ConfigError: it has no address that can be used.
    """
    status = one.health_status
    if status == _DRAINING:
        return Candidate("", 0, _UNHEALTHY, _NOTHING, draining=True)
    address = _address(one.endpoint.address)
    weight = one.load_balancing_weight.value or 1  # Envoy and gRPC refuse 0, and absent is 1
    return Candidate(address, weight, _HEALTH.get(status, _UNHEALTHY), _metadata(one))


def _address(address: wire.Address) -> str:
    socket = address.socket_address
    if socket.port_value and not socket.protocol:
        found = join_address(socket.address, socket.port_value)
    elif address.HasField("pipe"):
        found = f"unix:{address.pipe.path}"
    else:
        told = f"address {socket.address[:80]!r}: an endpoint has an address and a port of TCP, or a path"
        raise ConfigError(told)
    check_address(found)
    return found


def _metadata(one: wire.LbEndpoint) -> Mapping[str, Any]:
    named = one.endpoint.hostname
    if not named and not one.HasField("metadata"):
        return _NOTHING
    found: dict[str, Any] = {"hostname": named} if named else {}
    filters = one.metadata.filter_metadata
    if _SUBSETS in filters:
        for key, value in filters[_SUBSETS].fields.items():
            text = value.string_value
            if text:
                found[intern(key)] = text
                continue
            kind = value.WhichOneof("kind")
            if kind in {"number_value", "string_value", "bool_value"}:
                found[intern(key)] = getattr(value, kind)
    return found


def usual_candidate(one: Any) -> Candidate:
    """Return what a plain value says, if that is what nearly all say.

    Raises:
        Unusual: it is not.
    """
    if type(one) is not dict or not _FIELDS.issuperset(one):
        raise Unusual
    weight, status = one.get("load_balancing_weight", 1), one.get("health_status", "UNKNOWN")
    if type(weight) is not int or not 1 <= weight <= _HEAVIEST or type(status) is not str or status not in _STATUSES:
        raise Unusual
    try:
        address, metadata = _usual_address(one["endpoint"]), _usual_metadata(one)
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        OverflowError,
    ):  # ConfigError of an address is one of these, too
        raise Unusual from None
    return Candidate(address, weight, _STATUSES[status], metadata, draining=status == "DRAINING")


def _usual_address(endpoint: Any) -> str:
    address = endpoint["address"]
    socket = address["socket_address"]
    host, port = socket["address"], socket["port_value"]
    if (
        len(address) > 1
        or socket.keys() not in _SOCKETS
        or socket.get("protocol", "TCP") != "TCP"
        or type(host) is not str
        or type(port) is not int
    ):
        raise Unusual
    found = join_address(host, port)
    check_address(found)
    return found


def _usual_metadata(one: dict[str, Any]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    if len(one["endpoint"]) > 1:
        found["hostname"] = one["endpoint"]["hostname"]
        if len(one["endpoint"]) > 2 or not found["hostname"]:
            raise Unusual
    if "metadata" in one:
        ((outer, filters),) = one["metadata"].items()
        ((inner, said),) = filters.items()
        if (outer, inner) != ("filter_metadata", _SUBSETS):
            raise Unusual
        for key, value in said.items():
            key.encode()  # what has no UTF-8 is no text in a message
            found[intern(key)] = value if type(value) is bool else float(value) if type(value) is int else value
    for value in found.values():
        if type(value) is str:
            value.encode()
        elif type(value) is not float and type(value) is not bool:
            raise Unusual
    return found or _NOTHING
