"""``python -m tests.fuzz``: fuzz every decoder for a while, each in a process of its own; status 1 when one broke.

What was found to reach new code is kept in build/fuzz, so that a later run goes on from there. An input that broke a
decoder is kept beside it, and named.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS, Target

HOME = Path("build") / "fuzz"
LONGEST = 16_384
"""Bytes of an input."""
MEMORY = 512
"""Megabytes that a process may have: the interpreter and its instruments take some 150."""
PATIENCE = 20
"""Seconds that one input may take."""

_WORD = re.compile(rb'"[A-Za-z_/.-]{1,40}"')


def main() -> int:
    """Fuzz as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each decoder (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=TARGETS, help="this decoder alone; may be repeated")
    parser.add_argument("--again", type=Path, metavar="FILE", help="give one input to the decoders, and nothing else")
    options = parser.parse_args()
    broken = [name for name in options.only or TARGETS if not _fuzz(name, options.seconds, options.again)]
    if broken:
        print(f"broken: {', '.join(broken)}; the inputs are in {HOME}/<name>/ and can be tried by --again")
    return 1 if broken else 0


def _fuzz(name: str, seconds: int, again: Path | None) -> bool:
    print(f"== {name}", flush=True)
    home = HOME / name
    corpus = home / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    target = TARGETS[name]
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    what = [str(again)] if again is not None else [f"-max_total_time={seconds}", str(corpus)]
    limits = [f"-max_len={LONGEST}", f"-rss_limit_mb={MEMORY}", f"-timeout={PATIENCE}"]
    words = _dictionary(target)
    if words:
        (home / "words").write_bytes(words)
        limits.append(f"-dict={home / 'words'}")
    command = [sys.executable, "-m", "tests.fuzz.one", name, *limits, f"-artifact_prefix={home}/", "-verbosity=0"]
    return subprocess.run([*command, *what], check=False).returncode == 0


def _dictionary(target: Target) -> bytes:
    """Return the words of the seeds, as libFuzzer reads them: what it puts into inputs besides chance."""
    words = sorted({word for seed in target.seeds for word in _WORD.findall(seed)})
    return b"".join(b'"\\"' + word[1:-1] + b'\\""\n' for word in words)


if __name__ == "__main__":
    sys.exit(main())
