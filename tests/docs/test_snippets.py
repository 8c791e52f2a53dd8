"""Every Python block of the documentation runs as it stands: examples that rot are worse than none.

A block is a program of its own, run in a fresh interpreter with warnings as errors, in an empty directory. One that
cannot run (it needs a registry, say) is opened with ```` ```python no-run ```` and starts with a comment that says why.
A file that later blocks of the page use is opened with ```` ```python save=name.py ````: it is put beside them.

The examples of balancers and policies are small, and there are many: those of a folder share an interpreter, one after
the other, since to start it takes longer than they do.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = ("docs/reference/balancing/", "docs/reference/policies/")
SECONDS = 180
REASON = re.compile(r"#\s*not run: \S+")
FENCE = re.compile(r"^( *)```+(\S*) *(.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block of Python; ``line`` is that of its first line of code, ``words`` stand behind ```python."""

    page: str
    line: int
    words: tuple[str, ...]
    code: str

    @property
    def runs(self) -> bool:
        """Whether it is to be executed by itself."""
        return "no-run" not in self.words and self.file is None

    @property
    def file(self) -> str | None:
        """Under what name the reader saves it for later blocks, if so."""
        return next((word.removeprefix("save=") for word in self.words if word.startswith("save=")), None)


def blocks_of(page: str, text: str) -> list[Block]:
    """Return the Python blocks of a Markdown text, in order."""
    blocks: list[Block] = []
    opened: tuple[int, int, str, tuple[str, ...]] | None = None
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        fence = FENCE.match(line)
        if fence is None:
            continue
        if opened is None:
            opened = (number, len(fence[1]), fence[2], tuple(fence[3].split()))
            continue
        start, indent, language, words = opened
        if language == "python":
            code = "\n".join(body[indent:] for body in lines[start : number - 1]) + "\n"
            blocks.append(Block(page, start + 1, words, code))
        opened = None
    return blocks


ALL = [block for page in PAGES for block in blocks_of(str(page.relative_to(ROOT)), page.read_text())]


@pytest.mark.parametrize(
    "block",
    [block for block in ALL if not (block.runs and block.page.startswith(FOLDERS))],
    ids=lambda block: f"{block.page}:{block.line}",
)
def test_block(block: Block, tmp_path: Path) -> None:
    """A block runs to its end without an error or a warning, or says why it is not run."""
    unknown = [word for word in block.words if word not in ("no-run", f"save={block.file}")]
    assert not unknown, f"unknown words after ```python: {unknown}"
    beside = [other for other in ALL if other.page == block.page and other.line < block.line and other.file]
    if block.file is not None:
        later = [other.code for other in ALL if other.page == block.page and other.line > block.line and other.runs]
        assert any(block.file in code for code in later), f"no later block of the page uses {block.file}"
        return
    if not block.runs:
        assert REASON.match(block.code), "a no-run block starts with a comment '# not run: <why>'"
        compile(block.code, block.page, "exec", dont_inherit=True)
        return
    program = tmp_path / "example.py"
    for file in (*beside, block):  # at its line, so that a traceback shows the line of the page
        (tmp_path / (file.file or program.name)).write_text("\n" * (file.line - 1) + file.code)
    done = run(program)
    assert done.returncode == 0, f"{block.page}:{block.line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_blocks_of_a_folder(folder: str, tmp_path: Path) -> None:
    """Each runs to its end without an error or a warning, whatever ran before it."""
    blocks = [block for block in ALL if block.runs and block.page.startswith(folder)]
    assert not [block for block in blocks if block.words]
    names = [f"{Path(block.page).stem}_{block.line}.py" for block in blocks]
    for name, block in zip(names, blocks, strict=True):
        (tmp_path / name).write_text("\n" * (block.line - 1) + block.code)
    (tmp_path / "all.py").write_text(
        f"import runpy\nfor name in {names}:\n    runpy.run_path(name, run_name='__main__')\n"
    )
    done = run(tmp_path / "all.py")
    assert done.returncode == 0, f"{folder}\n{done.stdout}{done.stderr}"


def test_a_broken_block_fails(tmp_path: Path) -> None:
    """A block with an error, and one with a warning, end with an exit status that is not 0."""
    for code in ("raise SystemExit(1)", "import warnings; warnings.warn('old')"):
        (tmp_path / "example.py").write_text(code)
        assert run(tmp_path / "example.py").returncode != 0


def test_blocks_are_found() -> None:
    """Blocks of other languages are left out; indented ones and words behind the language are understood."""
    text = "a\n```python\nx = 1\n```\n```sh\nls\n```\n- b\n  ```python no-run\n  # not run: why\n  ```\n"
    text += "```python save=server.py\ny = 2\n```\n"

    found = blocks_of("page", text)
    assert found == [
        Block("page", 3, (), "x = 1\n"),
        Block("page", 10, ("no-run",), "# not run: why\n"),
        Block("page", 13, ("save=server.py",), "y = 2\n"),
    ]
    assert [(block.runs, block.file) for block in found] == [(True, None), (False, None), (False, "server.py")]


def test_every_page_can_be_reached() -> None:
    """Each page of docs/ is linked from some other page, and no link between pages is broken."""
    linked = set()
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]+)", page.read_text()):
            file = (page.parent / target).resolve()
            assert file.exists(), f"{page.relative_to(ROOT)} links to {target}, which is not there"
            linked.add(file)

    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= linked


def test_every_file_that_a_page_names_is_there() -> None:
    """Those of ``tests/…``, ``src/…`` and ``benchmarks/…``, files by their names with ``.py`` and folders."""
    named = re.compile(r"(?<![\w/])(?:tests|src|benchmarks)/[\w./-]*(?:\.\w+|/)(?=[`\s])")
    found = {(page, name) for page in PAGES for name in named.findall(page.read_text())}
    assert len(found) > 5
    gone = [f"{page.relative_to(ROOT)}: {name}" for page, name in sorted(found) if not (ROOT / name).exists()]
    assert not gone


def run(program: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in its own directory, with this interpreter and warnings as errors."""
    command = [sys.executable, "-W", "error", program.name]
    own = {"PYTHONPATH": str(ROOT / "src"), "SVCMESH_LOCAL_DIR": str(program.parent / "registry")}
    environment = {**os.environ, **own}  # a registry of its own: it meets neither other blocks nor the user's services
    return subprocess.run(
        command,
        check=False,
        cwd=program.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
    )
