"""Every balancer and every policy has a page, linked from the index of its folder, with the sections that all have.

A page says of each parameter what it is, its range and its default; here the defaults are compared with those of the
code, so that neither can change without the other, and no class can be added without a page.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import svcmesh
from svcmesh import balance, policy
from svcmesh.observe.events import EVENTS
from tests.docs.test_snippets import run

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
FOLDERS = {name: REFERENCE / name for name in ("balancing", "policies")}
PAGES = [page for folder in FOLDERS.values() for page in sorted(folder.glob("*.md")) if page.name != "index.md"]
SECTIONS = ["When to use it", "When not to", "Example", "Parameters", "Events", "Cost", "Source"]
HEADER = re.compile(r"^\| `(\w+)` \| what \| range \| default \|$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
REQUIRED = object()
NAMES: dict[str, Any] = {name: getattr(room, name) for room in (balance, policy) for name in room.__all__}
CLASSES = {name: thing for name, thing in NAMES.items() if dataclasses.is_dataclass(thing)}
PLAIN = {name for name, thing in CLASSES.items() if not dataclasses.fields(thing)}
UNSHOWN = {"FaultTarget"}  # is made by us alone: its fields are told beside `match`


def each_page() -> Any:
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REFERENCE)))


def sections_of(page: Path) -> dict[str, str]:
    """Return the text of each section, by its heading, in order."""
    outside = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"^## (.+)$", outside, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def tables_of(page: Path) -> list[tuple[str, dict[str, tuple[str, str]]]]:
    """Return the tables of parameters of a page: whose they are, and the cells of range and default by name."""
    found = []
    text = page.read_text()
    for header in HEADER.finditer(text):
        rows = re.match(r"\n\|[-|]+\|\n((?:\|.*\|\n)*)", text[header.end() :])
        assert rows is not None, f"{page.name}: the table of {header[1]} has no rows"
        cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[1].splitlines()]
        assert all(len(row) == 4 and all(row[:3]) for row in cells), f"{page.name}: a cell of {header[1]} is missing"
        found.append((header[1], {row[0].strip("`"): (row[2], row[3]) for row in cells}))
    return found


def documented(cell: str) -> object:
    """Return the default that a cell shows."""
    if cell == "required":
        return REQUIRED
    code = CODE.match(cell)
    assert code is not None, f"{cell!r} is no default"
    return eval(code[1], dict(NAMES))


def default_of(field: dataclasses.Field[Any]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return REQUIRED if field.default is dataclasses.MISSING else field.default


@each_page()
def test_a_page_is_linked_from_its_index_and_has_the_sections_that_all_have(page: Path) -> None:
    """In this order; others may stand between them. The example is code that `test_snippets` runs."""
    assert f"]({page.name})" in (page.parent / "index.md").read_text()
    text = page.read_text()
    assert re.match(r"# .+\n\n[^\n#|`-]|# .+\n\n`", text), "a title, and what it is in a sentence"
    found = sections_of(page)
    assert [section for section in found if section in SECTIONS] == SECTIONS
    assert all(found[section].strip() for section in SECTIONS if section != "Example")
    assert re.search(r"^## Example\n(?:(?!^## ).*\n)*?```python\n", text, re.MULTILINE), "an example that runs"


@each_page()
def test_the_events_of_a_page_exist(page: Path) -> None:
    """And what it costs names the command that measures it."""
    found = sections_of(page)
    named = [word for word in CODE.findall(found["Events"]) if re.fullmatch(r"[a-z_]+\.[a-z_]+", word)]
    assert [name for name in named if name not in EVENTS] == []
    commands = re.findall(r"python\s+-m\s+(benchmarks[\w.]*|timeit)(?:\s+--only\s+(\w+))?", found["Cost"])
    assert commands, "no command"
    known = re.findall(r'^    "(\w+)": \(', (ROOT / "benchmarks" / "__main__.py").read_text(), re.MULTILINE)
    assert all(not benchmark or benchmark in known for _, benchmark in commands)
    files = [ROOT / f"{module.replace('.', '/')}.py" for module, _ in commands if "." in module]
    assert [file for file in files if not file.exists()] == []


def test_what_pages_have_timed_runs(tmp_path: Path) -> None:
    """Commands of `timeit` stand in the text, where no other test meets them: their code runs once, without a clock."""
    text = " ".join(" ".join(page.read_text().split()) for page in PAGES)
    found = re.findall(r"`python -m timeit -s '([^']*)' '([^']*)'`", text)
    assert len(found) == text.count("-m timeit") > 0
    lines = [f"exec({setup!r}); {statement}" for setup, statement in found]
    (tmp_path / "timed.py").write_text("\n".join(lines))
    done = run(tmp_path / "timed.py")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted({*CLASSES, "Policy", "deadline"} - UNSHOWN - PLAIN))
def test_every_parameter_is_on_one_page_with_its_default(name: str) -> None:
    """Those of a policy are spread over the pages of what they are for."""
    pages = [page for folder in FOLDERS.values() for page in folder.glob("*.md")]
    tables = [(page, rows) for page in pages for whose, rows in tables_of(page) if whose == name]
    assert tables, f"no page has a table of the parameters of {name}"
    if name != "Policy":
        assert len(tables) == 1, [page.name for page, _ in tables]
    shown = [(field, default) for _, rows in tables for field, (_, default) in rows.items()]
    if name == "deadline":
        assert shown == [("seconds", "required")] == [(each, "required") for each in parameters(svcmesh.deadline)]
        return
    expected = {field.name: default_of(field) for field in dataclasses.fields(NAMES[name]) if field.init}
    assert sorted(field for field, _ in shown) == sorted(expected)
    assert {field: documented(cell) for field, cell in shown} == expected


FIRST: dict[str, Any] = {
    "DeterministicAperture": balance.DeterministicAperture(0, 10),
    "RandomSubsetting": balance.RandomSubsetting(20),
    "Subset": balance.Subset({"version": "2"}),
    "SubsetSelector": balance.SubsetSelector(["version"]),
    "SlowStart": balance.SlowStart(30.0),
    "LocalityFailover": balance.LocalityFailover(svcmesh.Locality("eu")),
    "ZoneAware": balance.ZoneAware(svcmesh.Locality("eu"), {}),
    "LocalityWeighted": balance.LocalityWeighted({svcmesh.Locality("eu"): 1}),
    "StatefulSession": balance.StatefulSession(balance.HeaderBasedSessionState("session")),
    "CookieBasedSessionState": balance.CookieBasedSessionState("session"),
    "HeaderBasedSessionState": balance.HeaderBasedSessionState("session"),
    "Header": balance.Header("x-user"),
    "Cookie": balance.Cookie("session"),
    "Query": balance.Query("user"),
    "Computed": balance.Computed(repr),
    "GrpcBackoff": policy.GrpcBackoff(initial=0.1, cap=1.0, multiplier=2.0),
    "Slow": policy.Slow(seconds=1.0),
    "Delay": policy.Delay(1.0),
    "Abort": policy.Abort(503),
    "Fault": policy.Fault(abort=policy.Abort(503)),
    "HealthCheck": policy.HealthCheck(tcp_health_check=policy.TcpHealthCheck()),
    "HttpHealthCheck": policy.HttpHealthCheck("/healthz"),
}
"""One of each class that cannot be made of nothing."""


RANGE = re.compile(
    r"(whole, )?(?:more than (?P<over>\d+)(?:, at most (?P<most>\d+))?|from (?P<least>\d+)"
    r"|(?P<first>[\d,]+) to (?P<last>[\d,]+)|(?P<flag>a flag)|(?P<text>not empty))(?=$|[,; ])"
)


def beyond(told: str) -> list[Any]:
    """Return values that a range, in the words of the pages, leaves out; none where it is no range."""
    found = RANGE.match(told)
    if found is None:
        return []
    whole, (over, most, least, first, last, flag, text) = found[1], found.group(*RANGE.groupindex)
    limits = [over and int(over), most and int(most) + 1, least and int(least) - 1]
    limits += [first and int(first.replace(",", "")) - 1, last and int(last.replace(",", "")) + 1]
    return (
        [limit for limit in limits if limit is not None] + ["no"] * bool(flag) + [""] * bool(text) + [1.5] * bool(whole)
    )


@pytest.mark.parametrize("name", sorted({*CLASSES, "Policy"} - UNSHOWN - PLAIN - {"LoadReport"}))
def test_what_is_beyond_a_range_is_refused(name: str) -> None:
    """By an error that names the field. A report of somebody else's is not checked: it is passed over."""
    first = FIRST[name] if name in FIRST else NAMES[name]()
    for rows in [rows for page in PAGES for whose, rows in tables_of(page) if whose == name]:
        for field, (told, _) in rows.items():
            for value in beyond(told):
                with pytest.raises(svcmesh.ConfigError, match=field):
                    dataclasses.replace(first, **{field: value})


def test_ranges_are_read() -> None:
    assert beyond("whole, 1 to 8,388,608") == [0, 8_388_609, 1.5]
    assert beyond("more than 0, at most 1") == [0, 2]
    assert beyond("from 0") == [-1]
    assert beyond("a flag") == ["no"]
    assert beyond("a `Locality`") == []


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_a_page_says_that_there_are_no_parameters(name: str) -> None:
    found = [page for page in PAGES if page.read_text().startswith(f"# `{name}`\n")]
    assert [sections_of(page)["Parameters"].startswith("\n\nNone. ") for page in found] == [True]


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_every_public_name_of_the_two_rooms_is_on_a_page() -> None:
    """Also those without parameters, such as `RoundRobin`, as the title of a page or in its text."""
    pages = {page: page.read_text() for folder in FOLDERS.values() for page in folder.glob("*.md")}
    assert [name for name in NAMES if not any(f"`{name}" in text for text in pages.values())] == []
    balancers = [name for name, thing in NAMES.items() if inspect.isclass(thing) and hasattr(thing, "over")]
    titles = {text.splitlines()[0] for text in pages.values()}
    assert [name for name in balancers if name != "LoadBalancer" and f"# `{name}`" not in titles] == []


def test_every_event_of_a_policy_is_on_its_page() -> None:
    """All but those of discovery and registration, of configuration, of calls and of listeners."""
    others = ("discovery.", "endpoints.", "registration.", "config.", "attempt.", "call.finished", "listener.")
    told = "".join(sections_of(page)["Events"] for page in PAGES)
    assert [name for name in EVENTS if not name.startswith(others) and f"`{name}`" not in told] == []


def test_every_anchor_is_a_heading() -> None:
    """Links into pages say where; a heading that is renamed, or moves to another page, takes them along."""
    everywhere = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = []
    for page in everywhere:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", page.read_text()):
            file = (page.parent / target).resolve() if target else page
            if not file.exists() or anchor not in anchors_of(file):
                broken.append(f"{page.relative_to(ROOT)}: {target}#{anchor}")
    assert broken == []


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    outside = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
