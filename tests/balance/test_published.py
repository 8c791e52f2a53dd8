"""Numbers that the tests of other systems expect of themselves: whoever agrees with all of them chooses as they do.

The file that has them is named beside each; the paths are those of envoyproxy/envoy, grpc/grpc and twitter/finagle.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from types import SimpleNamespace

import pytest

from svcmesh import Endpoint, Locality, Mesh, Policy
from svcmesh.balance import (
    DeterministicAperture,
    LoadReport,
    LocalityWeighted,
    Maglev,
    PeakEwma,
    RandomSubsetting,
    RingHash,
    hash_key,
)
from svcmesh.balance.cell import Cell
from svcmesh.balance.locality_weighted import effective, strides
from svcmesh.balance.server_load import utilization, weight_of
from svcmesh.balance.static_stride import laps, scaled
from svcmesh.core.hashing import murmur2, xxh64
from svcmesh.testing import FakeClock

LAST = 2**64 - 1


class Start:
    """A source of chance whose rotations begin at this part of a period."""

    def __init__(self, part: float) -> None:
        self._part = part

    def random(self) -> float:
        return self._part


def local(ports, weights=None, names=False) -> list[Endpoint]:
    """Return endpoints at 127.0.0.1, placed by their address or by the port's name."""
    return [
        Endpoint(f"127.0.0.1:{port}", weight=weight, metadata={"hash_key": str(port)} if names else {})
        for port, weight in zip(ports, weights or [1] * len(ports), strict=True)
    ]


def owners(config, endpoints, keys) -> list[int]:
    """Return the places in the list of those that keys belong to."""
    picker = config.picker(endpoints)
    return [endpoints.index(picker.pick(key)) for key in keys]


def shared(config, endpoints, localities, weights, keys) -> list[int]:
    """Return the same where localities have weights; ``localities``: places in the list, by locality."""
    zones = [Locality("eu", f"zone {number}") for number in range(len(localities))]
    where = {place: zone for zone, places in zip(zones, localities, strict=True) for place in places}
    placed = [replace(endpoint, locality=where[place]) for place, endpoint in enumerate(endpoints)]
    policy = Policy(load_balancer=config, locality=LocalityWeighted(dict(zip(zones, weights, strict=True))))
    with Mesh({"orders": placed}, policy=policy) as mesh:
        service = mesh.service("orders")
        return [placed.index(service.pick(key)) for key in keys]


# -- hashes: test/common/common/hash_test.cc ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "xx", "murmur"),
    [
        ("foo", 3728699739546630719, 9631199822919835226),
        ("bar", 5234164152756840025, 11474628671133349555),
        ("foo\nbar", 8917841378505826757, 16306510975912980159),
        ("lyft", 4400747396090729504, 12847078931730529320),
        ("", 17241709254077376921, 6142509188972423790),
    ],
)
def test_hashes(text: str, xx: int, murmur: int) -> None:
    assert (hash_key(text), murmur2(text)) == (xx, murmur)
    assert xxh64("bar", xxh64("foo")) == 17745830980996999794, "several texts, each seeded by the hash of those before"


# -- rings: test/common/upstream/ring_hash_lb_test.cc ------------------------------------------------------------------

BY_ADDRESS = [
    (833437586790550860, 4),
    (928266305478181108, 2),
    (1033482794131418490, 0),
    (3551244743356806947, 5),
    (3851675632748031481, 3),
    (5583722120771150861, 1),
    (6311230543546372928, 1),
    (7700377290971790572, 3),
    (13144177310400110813, 5),
    (13444792449719432967, 2),
    (15516499411664133160, 4),
    (16117243373044804889, 0),
]
BY_MURMUR = [
    (1358027074129602068, 5),
    (4361834613929391114, 3),
    (7224494972555149682, 4),
    (7701421856454313576, 1),
    (8649315368077433379, 2),
    (8739448859063030639, 4),
    (9887544217113020895, 1),
    (10150910876324007731, 2),
    (15168472011420622455, 3),
    (15427156902705414897, 0),
    (16375050414328759093, 5),
    (17613279263364193813, 0),
]
BY_NAME = [
    (1975508444536362413, 5),
    (2376063919839173711, 5),
    (2386806903309390596, 3),
    (6749904478991551885, 4),
    (6803900775736438537, 3),
    (7225015537174310577, 2),
    (8787465352164086522, 0),
    (11282020843382717940, 2),
    (13723418369486627818, 1),
    (13776502110861797421, 0),
    (14338313586354474791, 1),
    (15364271037087512980, 4),
]
"""Every point of a ring of twelve, and the place of its owner in the list."""


@pytest.mark.parametrize(
    ("first", "names", "function", "ring"),
    [
        (90, False, "XX_HASH", BY_ADDRESS),
        (80, False, "MURMUR_HASH_2", BY_MURMUR),
        (90, True, "XX_HASH", BY_NAME),
    ],
    ids=["address", "murmur", "hash_key"],
)
def test_every_point_of_a_ring(first: int, names: bool, function: str, ring: list[tuple[int, int]]) -> None:
    endpoints = local(range(first, first + 6), names=names)
    config = RingHash(12, hash_function=function)
    points, places = [point for point, _ in ring], [place for _, place in ring]

    assert owners(config, endpoints, points) == places
    assert owners(config, endpoints, [point + 1 for point in points]) == [*places[1:], places[0]]
    assert owners(config, endpoints, [0, LAST]) == [places[0]] * 2


TINY = {928266305478181108: 2, 4443673547860492590: 2, 5583722120771150861: 1}
TINY |= {6311230543546372928: 1, 13444792449719432967: 2, 16117243373044804889: 0}
TWICE = {928266305478181108: 2, 3851675632748031481: 3, 5583722120771150861: 1, 6311230543546372928: 1}
TWICE |= {7700377290971790572: 3, 12559126875973811811: 3, 13444792449719432967: 2, 13784988426630141778: 3}
TWICE |= {16117243373044804889: 0}


def test_points_by_weight() -> None:
    """Of endpoints, of localities, of which one has none, and of both."""
    assert owners(RingHash(6, 6), local([90, 91, 92], [1, 2, 3]), TINY) == [*TINY.values()]
    four = local([90, 91, 92, 93])
    assert shared(RingHash(6, 6), four, [[0], [1], [2], [3]], [1, 2, 3, 0], TINY) == [*TINY.values()]
    both = local([90, 91, 92, 93], [1, 2, 1, 2])
    assert shared(RingHash(9, 9), both, [[0, 1], [2, 3]], [1, 2], TWICE) == [*TWICE.values()]


def test_shares_of_a_large_ring() -> None:
    """Keys at equal distances, as many to each as there."""
    keys = [number * (LAST // 6000) for number in range(6000)]
    large = RingHash(6144, 8_388_608)
    assert Counter(owners(large, local([90, 91, 92], [1, 2, 3]), keys)) == {0: 987, 1: 1932, 2: 3081}
    keys = [number * (LAST // 1023) for number in range(1023)]
    assert Counter(owners(RingHash(1023, 1023), local([90, 91]), keys)) == {0: 526, 1: 497}
    keys = [number * (LAST // 9000) for number in range(9000)]
    both, large = local([90, 91, 92, 93], [1, 2, 1, 2]), RingHash(9216, 8_388_608)
    assert Counter(shared(large, both, [[0, 1], [2, 3]], [1, 2], keys)) == {0: 924, 1: 2009, 2: 2053, 3: 4014}


def test_shares_that_are_far_apart() -> None:
    """LopsidedWeightSmallScale, LocalityWeightedLopsided: 127 to one of 1,024 endpoints, and one to all the others."""
    points = {11664790346325243808: 1, 15894554872961148518: 128, 13958138884277627155: 256, 15803774069438192949: 384}
    points |= {3829253010855396576: 512, 17918147347826565154: 640, 6442769608292299103: 768, 5881074926069334434: 896}
    named = [Endpoint(f"10.0.0.1:{n + 1}", metadata={"hash_key": f"127.0.0.1:{n}"}) for n in range(1024)]
    apart = [[0], [*range(1, 1024)]]

    assert shared(RingHash(1024, 1024), named, apart, [127, 1], points) == [*points.values()]
    table = Counter(shared(Maglev(), named, apart, [127, 1], range(65_537)))
    assert table == {0: 65_537 - 1023} | dict.fromkeys(range(1, 1024), 1)


# -- tables: test/common/upstream/maglev_lb_test.cc --------------------------------------------------------------------


def test_every_slot_of_a_table() -> None:
    six = local(range(90, 96))
    assert owners(Maglev(7), six, range(21)) == [2, 4, 0, 1, 5, 0, 3] * 3
    assert owners(Maglev(7), local(range(90, 96), names=True), range(7)) == [2, 5, 0, 3, 4, 1, 0]
    weighted = [1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]
    assert owners(Maglev(17), local([90, 91], [1, 2]), range(17)) == weighted

    picker = Maglev(7).picker(six)
    assert picker.pick(10) == six[1]
    assert picker.pick(10, exclude=[six[1]]) == six[0], "the second attempt"
    assert picker.pick(10, exclude=[six[1], six[0]]) == six[5], "the third one"


def test_slots_by_weight_of_localities() -> None:
    """Weights of endpoints count within their locality only; one of no weight has no slot."""
    even = [1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1]
    assert shared(Maglev(17), local([90, 91], [1, 2]), [[0], [1]], [1, 1], range(17)) == even
    most = [1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]
    three = local([90, 91, 92], [1, 2, 3])
    assert shared(Maglev(17), three, [[0], [2], [1]], [8, 0, 2], range(17)) == most


# -- localities by weight: test/extensions/load_balancing_policies/common/locality_wrr_test.cc -------------------------


def test_first_calls_of_ten_new_schedules() -> None:
    """WeightedAllChosen: of weights 1, 6 and 3, one for each start."""
    weights = [Fraction(weight) for weight in (1, 6, 3)]
    assert Counter(strides(weights, Start((number + 0.5) / 10))() for number in range(10)) == {0: 1, 1: 6, 2: 3}


@pytest.mark.parametrize(("well", "calls"), [(5, 33), (4, 33), (3, 29), (2, 22), (1, 12)])
def test_calls_of_a_hundred_by_health(well: int, calls: int) -> None:
    """UnhealthyFailover: of a locality of weight 1 whose five hosts fall ill, beside a well one of weight 2."""
    place = strides([effective(1, well, 5, 140), effective(2, 1, 1, 140)], Start(0.0))
    assert abs(sum(place() == 0 for _ in range(100)) - calls) <= 1


# -- rotation by load reports: test/core/client_channel/lb_policy/static_stride_scheduler_test.cc ----------------------


@pytest.mark.parametrize(
    ("weights", "picks"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([3, 0, 1], [3, 2, 1]),
        ([300, 300, 0], [1, 1, 1]),
        ([81] + [1] * 19, [50] + [1] * 19),
        ([100, 1e-10], [200, 1]),
    ],
    ids=["exact", "the mean for none", "all equal", "the most", "the least"],
)
def test_picks_of_a_round(weights: list[float], picks: list[int]) -> None:
    begin = laps(range(len(weights)), scaled(weights), Start(0.0))
    round_ = (place for _ in range(9) for place in begin())

    assert Counter(islice(round_, sum(picks))) == dict(enumerate(picks))


def test_the_order_of_a_rotation() -> None:
    """grpc-java, WeightedRoundRobinLoadBalancerTest.java, testDeterministicPicks."""
    begin = laps(range(3), scaled([2, 3, 6]), Start(0.0))
    assert [*islice(begin(), 6)] == [1, 2, 2, 0, 1, 2]


# -- load reports: Envoy's orca_weight_manager_test.cc -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "names", "busy", "weight"),
    [
        (LoadReport(1000, application_utilization=0.5), ("named_metrics.foo",), 0.5, 2000),
        (LoadReport(100, cpu_utilization=0.5), (), 0.5, 200),
        (LoadReport(100, application_utilization=0.25, cpu_utilization=0.5), (), 0.25, 400),
        (LoadReport(0, cpu_utilization=0.6, metrics={"named_metrics.bar": 0.3}), ("named_metrics.foo",), 0.6, 0),
        (LoadReport(1000), ("named_metrics.foo",), 0, 0),
    ],
)
def test_weights_of_load_reports(report: LoadReport, names: tuple[str, ...], busy: float, weight: float) -> None:
    assert (utilization(report, names), weight_of(report, 0.0, names)) == (busy, weight)


# -- random subsets: grpc-go, balancer/randomsubsetting/randomsubsetting_test.go ---------------------------------------


@pytest.mark.parametrize(
    ("count", "places"),
    [(10, [6, 0, 1, 7, 3]), (15, [13, 10, 12, 6, 0]), (1000, [739, 116, 359, 876, 263])],
)
def test_random_subsets(count: int, places: list[int]) -> None:
    """In their order; grpc-go hashes not the address, as A68 says, but how Go prints it."""
    printed = [SimpleNamespace(address=f'{{Addr: "endpoint-{n}", ServerName: "", }}', weight=1) for n in range(count)]
    cells = [Cell(endpoint) for endpoint in printed]
    found = RandomSubsetting(5, seed=0).subset(cells, random.Random(1))

    assert [cells.index(cell) for cell in found] == places


# -- aperture: finagle-core/src/test/scala/com/twitter/finagle/loadbalancer/aperture/ ----------------------------------

UNEQUAL = [0.06818127601781632, 0.02676535334991952, 0.024259669941850928, 0.060227644665411986, 0.021662557088166313]
UNEQUAL += [0.04581934074401264, 0.008902600511190118, 0.012225295738506748, 0.03381119880745816, 0.09320068787692642]
UNEQUAL += [0.06778865989313106, 1.8821268751749722e-4, 0.04998637327300792, 0.09808325343250059, 0.08018058428232361]


def facing(config: DeterministicAperture, weights: list[float]) -> dict[int, float]:
    """Return which parts of the servers are the client's, by their places on the ring."""
    addresses = sorted((f"10.0.0.{number}:80" for number in range(len(weights))), key=xxh64)
    cells = [Cell(Endpoint(address, weight=weight)) for address, weight in zip(addresses, weights, strict=True)]
    return {cells.index(cell): part for cell, part in config.aperture(cells)}


def test_a_ring_of_ten_servers() -> None:
    """RingTest.scala: from a quarter on a quarter, and from three quarters on a half."""
    assert facing(DeterministicAperture(1, 4, 1), [1] * 10) == {2: pytest.approx(0.5), 3: 1, 4: 1}
    half = pytest.approx(0.5)
    assert facing(DeterministicAperture(3, 4, 5), [1] * 10) == {7: half, 8: 1, 9: 1, 0: 1, 1: 1, 2: half}
    for number in range(10):
        assert facing(DeterministicAperture(number, 10, 1), [1] * 10) == {number: 1}


def test_a_ring_of_unequal_servers() -> None:
    """WeightedApertureTest.scala: with at least twelve of fifteen the width is 0.8."""
    for instance, places in ((1, range(3, 15)), (0, range(14))):
        parts = facing(DeterministicAperture(instance, 5), UNEQUAL)
        assert sorted(parts) == [*places]
        faced = sum(UNEQUAL[place] * part for place, part in parts.items()) / sum(UNEQUAL)
        assert faced == pytest.approx(0.8)


# -- peak EWMA: finagle-core/src/test/scala/com/twitter/finagle/loadbalancer/p2c/P2CPeakEwmaTest.scala -----------------


def calls_of(latencies: list[int], steps: int) -> list[int]:
    """Return how many calls each server gets, one a second; a server's take as long as its latency says."""
    clock = FakeClock(autojump=False)
    endpoints = [Endpoint(f"10.0.{number // 250}.{number % 250}:80") for number in range(len(latencies))]
    picker = PeakEwma(decay_time=150).picker(endpoints, rng=random.Random(1), clock=clock)
    ends: dict[int, list[int]] = defaultdict(list)
    calls = [0] * len(latencies)
    place = {endpoint: number for number, endpoint in enumerate(endpoints)}
    for step in range(steps):
        endpoint = picker.pick()
        number = place[endpoint]
        picker.started(endpoint)
        calls[number] += 1
        ends[step + latencies[number]].append(number)
        for ended in ends.pop(step, ()):
            picker.finished(endpoints[ended], latencies[ended], failed=False)
        clock.advance(1)
    return calls


def test_who_has_not_answered_yet_gets_no_second_call() -> None:
    calls = calls_of([1] * 100 + [10**6], 10_000)
    assert calls[-1] == 1
    assert max(calls[:-1]) < 1.5 * min(calls[:-1])


def test_calls_are_inverse_to_latencies() -> None:
    """With that much decay, of a hundred servers: half as many to one that takes twice as long."""
    calls = calls_of([5] * 100 + [10], 20_000)
    assert calls[-1] == pytest.approx(sum(calls[:-1]) / 200, rel=0.25)
