"""Who we are to a control plane: what the bootstrap file says of this node, and what runs on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from svcmesh.core.errors import ConfigError

if TYPE_CHECKING:
    from svcmesh._proto import svcmesh_xds_pb2 as wire

_SAID = ("id", "cluster", "locality", "metadata")


def node_of(said: Mapping[str, Any]) -> wire.Node:
    """Return the message for the object ``node`` of a bootstrap file.

    Raises:
        ConfigError: a field of it is of the wrong type.
    """
    from google.protobuf import json_format

    from svcmesh._proto import svcmesh_xds_pb2 as wire

    try:
        node = json_format.ParseDict({key: said[key] for key in _SAID if key in said}, wire.Node())
    except Exception as error:  # noqa: BLE001 - protobuf lets through whatever its parts raise, even SystemError
        raise ConfigError(f"node of the xDS bootstrap cannot be used: {error}") from None
    node.user_agent_name = "svcmesh"
    return node
