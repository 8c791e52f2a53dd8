"""Choosing an endpoint is arithmetic: immutable configurations, and pickers over cells that hold live counts."""

from __future__ import annotations

from svcmesh.balance.least_request import LeastRequest
from svcmesh.balance.picker import LoadBalancer, Picker
from svcmesh.balance.random_choice import Random
from svcmesh.balance.round_robin import RoundRobin

__all__ = ["LeastRequest", "LoadBalancer", "Picker", "Random", "RoundRobin"]
