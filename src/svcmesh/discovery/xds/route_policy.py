"""How calls of a route are to be made: its times and its retries, as fields of our policy.

Control planes write for Envoy and for gRPC's own clients, which do not read all alike. Where they differ:

- A route without `timeout` says nothing of it, as to gRPC; to Envoy it has 15 s. The service's own policy holds then.
- `max_stream_duration` is what gRPC goes by (`grpc_timeout_header_max` before it, the listener's behind it), `timeout`
  what Envoy does; the shorter one counts.
- `per_try_timeout` is Envoy's alone. One that is no shorter than the timeout is none, and a retry policy that has none
  says so, or the service's own would hold beside retries that are not its own.
- No retries at all is a `num_retries` of Envoy's, which gRPC refuses.

Source: Envoy, route_components.proto; gRPC, proposals A31 and A44.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from svcmesh.discovery.xds.invalid import Invalid
from svcmesh.policy.backoff import FullJitter
from svcmesh.policy.retry import Retry
from svcmesh.policy.retry_on import conditions
from svcmesh.policy.translated import Translated

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message

    from svcmesh._proto import svcmesh_xds_pb2 as wire

NOTHING: Final = Translated({})

_BASE = 0.025  # seconds; Envoy's first wait, and ten times that the longest
_SHORTEST = 0.001  # what gRPC makes of a base that is less
_LONGEST = 315_576_000_000  # seconds that a Duration may have
_BILLION = 1_000_000_000
_TOLD = 80  # characters of a word of somebody's that is shown
_ROUTE_UNREAD = (
    "max_grpc_timeout",
    "grpc_timeout_offset",
    "idle_timeout",
    "retry_policy_typed_config",
    "hedge_policy",
    "metadata_match",
    "prefix_rewrite",
    "regex_rewrite",
    "host_rewrite_literal",
    "request_mirror_policies",
)
_HOST_UNREAD = ("retry_policy_typed_config", "hedge_policy")
_RETRY_UNREAD = (
    "retry_priority",
    "retriable_headers",
    "retriable_request_headers",
    "retry_options_predicates",
    "per_try_idle_timeout",
)


def policy_of(route: wire.RouteAction, host: wire.VirtualHost) -> Translated:
    """Return what a route of a virtual host says of the policy. Its own retry policy counts, else the host's.

    Raises:
        Invalid: a time that is none, or waits that contradict each other.
    """
    fields: dict[str, Any] = {}
    left_out = [name for name in _ROUTE_UNREAD if _there(route, name)]
    left_out += [f"{name} of the virtual host" for name in _HOST_UNREAD if _there(host, name)]
    if any(one.HasField("metadata_match") for one in route.weighted_clusters.clusters):
        left_out.append("metadata_match of a weighted cluster")
    if route.max_stream_duration.HasField("grpc_timeout_header_offset"):
        left_out.append("max_stream_duration.grpc_timeout_header_offset")
    limits = _limits(route)
    if limits:
        fields["timeout"] = min(filter(None, limits), default=None)
    if route.HasField("retry_policy") or host.HasField("retry_policy"):
        policy = route.retry_policy if route.HasField("retry_policy") else host.retry_policy
        fields |= _retries(policy, fields.get("timeout"), left_out)
    return Translated(fields, tuple(left_out))


def is_bounded(route: wire.RouteAction) -> bool:
    """Whether a route says itself how long a stream may last, so that the listener has no say."""
    longest = route.max_stream_duration
    return longest.HasField("grpc_timeout_header_max") or longest.HasField("max_stream_duration")


def longest_of(options: wire.HttpProtocolOptions) -> float | None:
    """Return the seconds that a listener's streams may last, 0 for any; None where it says nothing of it.

    Raises:
        Invalid: that is no time.
    """
    given = options.HasField("max_stream_duration")
    return _seconds("max_stream_duration", options.max_stream_duration) if given else None


def within(fields: Mapping[str, Any], longest: float | None) -> Mapping[str, Any]:
    """Return the fields of a route that is not bounded itself, with what `longest_of` says of its listener."""
    if longest is None:
        return fields
    timeout = min(filter(None, (fields.get("timeout"), longest)), default=None)
    per_try = fields.get("per_try_timeout")
    if per_try is not None and timeout is not None and per_try >= timeout:
        fields = {**fields, "per_try_timeout": None}
    return {**fields, "timeout": timeout}


def _limits(route: wire.RouteAction) -> list[float]:
    """Return the times for a whole call that a route says; 0 for none."""
    found = [_seconds("timeout", route.timeout)] if route.HasField("timeout") else []
    longest = route.max_stream_duration
    if longest.HasField("grpc_timeout_header_max"):
        found.append(_seconds("grpc_timeout_header_max", longest.grpc_timeout_header_max))
    elif longest.HasField("max_stream_duration"):
        found.append(_seconds("max_stream_duration", longest.max_stream_duration))
    return found


def _retries(policy: wire.RetryPolicy, timeout: float | None, left_out: list[str]) -> dict[str, Any]:
    per_try = _seconds("per_try_timeout", policy.per_try_timeout) or None
    if per_try is not None and timeout is not None and per_try >= timeout:
        per_try = None
    on, unknown = conditions(policy.retry_on, policy.retriable_status_codes)
    left_out += [f"retry_on {word[:_TOLD]!r}" for word in unknown]
    left_out += [f"retry_policy.{name}" for name in _RETRY_UNREAD if _there(policy, name)]
    left_out += [
        f"retry_policy.retry_host_predicate {predicate.name[:_TOLD]!r}"
        for predicate in policy.retry_host_predicate
        if not _means_others(predicate)
    ]
    if policy.HasField("rate_limited_retry_back_off") and not _is_retry_after(policy.rate_limited_retry_back_off):
        left_out.append("retry_policy.rate_limited_retry_back_off")
    retries = policy.num_retries.value if policy.HasField("num_retries") else 1
    return {
        "per_try_timeout": per_try,
        "retry": Retry(max_attempts=1 + (retries if on else 0), on=on, wait=_waits(policy)),
    }


def _waits(policy: wire.RetryPolicy) -> FullJitter:
    if not policy.HasField("retry_back_off"):
        return FullJitter(base=_BASE, cap=10 * _BASE)
    given = policy.retry_back_off
    base = _seconds("base_interval", given.base_interval)
    cap = _seconds("max_interval", given.max_interval) if given.HasField("max_interval") else 10 * base
    if not base or cap < base:
        raise Invalid(f"retry_back_off from {base:g} s to {cap:g} s: it begins above 0, and ends no earlier")
    base = max(base, _SHORTEST)
    return FullJitter(base=base, cap=max(base, cap))


def _there(message: Message, name: str) -> bool:
    """Whether a field that is not read is there, one of several or one alone."""
    return any(field.name == name for field, _ in message.ListFields())


def _means_others(predicate: wire.RetryPolicy.RetryHostPredicate) -> bool:
    """Whether it only wants hosts that were not tried yet, as all our retries do."""
    kind = predicate.typed_config.type_url or predicate.name
    return kind.endswith(("PreviousHostsPredicate", "previous_hosts"))


def _is_retry_after(given: wire.RetryPolicy.RateLimitedRetryBackOff) -> bool:
    """Whether it only wants the header heeded that all our retries heed."""
    named = all(header.name.lower() == "retry-after" and not header.format for header in given.reset_headers)
    return named and not given.HasField("max_interval")


def _seconds(field: str, given: Duration) -> float:
    """Return the seconds of a Duration.

    Raises:
        Invalid: it is negative, or outside of what a Duration may be.
    """
    if not (0 <= given.seconds <= _LONGEST and 0 <= given.nanos < _BILLION):
        raise Invalid(f"{field} of {given.seconds} s and {given.nanos} ns is no time to wait")
    return given.seconds + given.nanos / _BILLION
