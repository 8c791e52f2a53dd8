"""``python -m tests.fuzz.one TARGET [arguments of libFuzzer]``: fuzz one decoder, in this process.

Half of the inputs are made by libFuzzer, which knows bytes and which of them reach new code; half are earlier ones
with other values, where they are JSON.
"""

from __future__ import annotations

import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["svcmesh"]):
    from tests.fuzz.targets import TARGETS

from tests.fuzz.shapes import changed


def main(name: str, *arguments: str) -> None:
    """Fuzz until libFuzzer ends the process."""
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name].decode, custom_mutator=_mutated)
    atheris.Fuzz()


def _mutated(data: bytes, largest: int, seed: int) -> bytes:
    rng = Random(seed)
    other = changed(data, largest, rng) if rng.random() < 0.5 else None
    return atheris.Mutate(data, len(data)) if other is None else other


if __name__ == "__main__":
    main(*sys.argv[1:])
