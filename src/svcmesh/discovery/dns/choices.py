"""The choices that a TXT record offers (`grpc_config=[…]`), and which of them is for this client.

Each choice is a service config and who it is for. The first that is for us counts. One that says a condition which
nobody knows makes the whole list void: it might be for others.

Source: gRPC, proposal A2, and "Service Config in DNS".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.documents import parse_document

PREFIX = "grpc_config="
"""What the text of such a record begins with."""

LANGUAGE = "python"

_KEYS = frozenset({"clientLanguage", "percentage", "clientHostname", "serviceConfig"})
_TOLD = 80  # characters of a stranger's key that are shown


@dataclass(frozen=True, slots=True)
class Us:
    """Who asks: the name of this machine, and a number from 0 to below 100 that was drawn once."""

    host: str
    drawn: float


def chosen(texts: Sequence[str], us: Us) -> Any:
    """Return the service config that the texts of TXT records have for ``us``; None if there is none.

    Raises:
        DiscoveryError: there are several lists, or one that is none.
    """
    lists = [text for text in texts if text.startswith(PREFIX)]
    if len(lists) > 1:
        raise DiscoveryError(f"there are {len(lists)} records with {PREFIX!r}, and no saying which counts")
    if not lists:
        return None
    listed = parse_document(lists[0].removeprefix(PREFIX), PREFIX.rstrip("="), is_json=True)
    if not isinstance(listed, list):
        raise DiscoveryError(f"{PREFIX}… is no list of choices")
    choices = [_checked(choice, f"choice {number}") for number, choice in enumerate(listed)]
    return next((choice.get("serviceConfig") for choice in choices if _is_for(choice, us)), None)


def _checked(choice: object, where: str) -> Mapping[str, Any]:
    if not isinstance(choice, dict):
        raise DiscoveryError(f"{where} is no object")
    for key in choice:
        if key not in _KEYS:
            raise DiscoveryError(f"{where} has the unknown key {key[:_TOLD]!r}, so none of them counts")
    for key in ("clientLanguage", "clientHostname"):
        listed = choice.get(key)
        if listed is not None and not (isinstance(listed, list) and all(isinstance(one, str) for one in listed)):
            raise DiscoveryError(f"{where}: {key} is a list of texts")
    percentage = choice.get("percentage")
    if percentage is not None and (type(percentage) is not int or not 0 <= percentage <= 100):
        raise DiscoveryError(f"{where}: percentage is a whole number from 0 to 100")
    if not isinstance(choice.get("serviceConfig"), dict):
        raise DiscoveryError(f"{where} has no serviceConfig")
    return choice


def _is_for(choice: Mapping[str, Any], us: Us) -> bool:
    languages, hosts, percentage = (choice.get(key) for key in ("clientLanguage", "clientHostname", "percentage"))
    return (
        (languages is None or LANGUAGE in (one.lower() for one in languages))
        and (hosts is None or us.host in hosts)
        and (percentage is None or us.drawn < percentage)
    )
