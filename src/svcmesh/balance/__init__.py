"""Choosing an endpoint is arithmetic: immutable configurations, and pickers over cells that hold live counts."""

from __future__ import annotations

from svcmesh.balance.deterministic_aperture import DeterministicAperture
from svcmesh.balance.hash_on import Computed, Cookie, Header, Query, Source
from svcmesh.balance.least_request import LeastRequest
from svcmesh.balance.load_report import LoadReport
from svcmesh.balance.locality_failover import LocalityFailover
from svcmesh.balance.locality_weighted import LocalityWeighted
from svcmesh.balance.maglev import Maglev
from svcmesh.balance.orca_weighted_round_robin import OrcaWeightedRoundRobin
from svcmesh.balance.peak_ewma import PeakEwma
from svcmesh.balance.pick_first import PickFirst
from svcmesh.balance.picker import LoadBalancer, Picker
from svcmesh.balance.priority import Priorities
from svcmesh.balance.random_choice import Random
from svcmesh.balance.random_subsetting import RandomSubsetting
from svcmesh.balance.ring_hash import RingHash
from svcmesh.balance.round_robin import RoundRobin
from svcmesh.balance.slow_start import SlowStart
from svcmesh.balance.stateful_session import CookieBasedSessionState, HeaderBasedSessionState, StatefulSession
from svcmesh.balance.subset import Subset
from svcmesh.balance.subset_selector import SubsetSelector
from svcmesh.balance.weighted_round_robin import WeightedRoundRobin
from svcmesh.balance.zone_aware import ZoneAware
from svcmesh.core.hashing import hash_key

__all__ = [
    "Computed",
    "Cookie",
    "CookieBasedSessionState",
    "DeterministicAperture",
    "Header",
    "HeaderBasedSessionState",
    "LeastRequest",
    "LoadBalancer",
    "LoadReport",
    "LocalityFailover",
    "LocalityWeighted",
    "Maglev",
    "OrcaWeightedRoundRobin",
    "PeakEwma",
    "PickFirst",
    "Picker",
    "Priorities",
    "Query",
    "Random",
    "RandomSubsetting",
    "RingHash",
    "RoundRobin",
    "SlowStart",
    "Source",
    "StatefulSession",
    "Subset",
    "SubsetSelector",
    "WeightedRoundRobin",
    "ZoneAware",
    "hash_key",
]
