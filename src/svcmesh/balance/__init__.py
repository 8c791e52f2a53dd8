"""Choosing an endpoint is arithmetic: immutable configurations, and pickers over cells that hold live counts."""

from __future__ import annotations

from svcmesh.balance.hash_on import Computed, Cookie, Header, Query, Source
from svcmesh.balance.least_request import LeastRequest
from svcmesh.balance.maglev import Maglev
from svcmesh.balance.peak_ewma import PeakEwma
from svcmesh.balance.pick_first import PickFirst
from svcmesh.balance.picker import LoadBalancer, Picker
from svcmesh.balance.random_choice import Random
from svcmesh.balance.ring_hash import RingHash
from svcmesh.balance.round_robin import RoundRobin
from svcmesh.balance.weighted_round_robin import WeightedRoundRobin
from svcmesh.core.hashing import hash_key

__all__ = [
    "Computed",
    "Cookie",
    "Header",
    "LeastRequest",
    "LoadBalancer",
    "Maglev",
    "PeakEwma",
    "PickFirst",
    "Picker",
    "Query",
    "Random",
    "RingHash",
    "RoundRobin",
    "Source",
    "WeightedRoundRobin",
    "hash_key",
]
