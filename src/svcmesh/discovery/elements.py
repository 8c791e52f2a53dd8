"""JSON whose bulk is one long list, read element by element: each is parsed, looked at, and let go before the next.

`json.loads` of ten thousand instances makes a hundred thousand objects before anybody looks at the first one. By then
that has left the processor's caches, the garbage collector has been through all of them again and again, and no other
thread has run. One by one they are parsed in half the time, in memory that the one before has used. And registries list
everything again when one instance has changed: an element whose text is the one of last time is not parsed at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

_NEVER = -1  # no text has this hash
_NOTHING = (0, _NEVER, _NEVER)
_BEGINNING = 128  # characters that tell most elements from most others
_SPACE = re.compile(r"[ \t\n\r]*")


class Known:
    """What elements have said, in their order.

    Attributes:
        texts: the length of each, its hash, and that of its first characters. One text in 10^19 would pass for another,
            and none can be made for that, since Python hashes text in another way in each process. Where the
            environment fixes that way (``PYTHONHASHSEED``), whoever writes a registry's texts can find two by some
            billions of tries, and replace one by the other unnoticed: an instance of his own says what it said before.
        made: what was made of each. Apart, because what is all numbers is nothing that the garbage collector looks at.
    """

    __slots__ = ("made", "texts")

    def __init__(self) -> None:
        self.texts: list[tuple[int, int, int]] = []
        self.made: list[Any] = []


def read_elements(
    content: bytes | str,
    each: Callable[[Any], Any],
    path: Sequence[str | None] = (),
    known: Known | None = None,
    decoder: json.JSONDecoder | None = None,
) -> Any:
    """Return what `json.loads` would, but in the one long list, instead of its elements, what was made of each.

    Args:
        content: the JSON.
        each: makes something of an element, which must mean the same wherever that stands, and for ever.
        path: the keys that lead to the list from the top, each to a list: of objects, where it leads on. None: any.
        known: what was made before, to be used again; brought up to date. None: nothing, and nothing is kept.
        decoder: what reads everything else; None: the usual one.

    Raises:
        ValueError, RecursionError: as `json.loads`. What ``each`` raises.
    """
    text = content if isinstance(content, str) else content.decode(json.detect_encoding(content), "surrogatepass")
    reading = _Reading(text, each, known, json.JSONDecoder() if decoder is None else decoder)
    value, end = reading.value(_skip(text, 0), path)
    end = _skip(text, end)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    if known is not None:
        known.texts, known.made = reading.now.texts, reading.now.made
    return value


class _Reading:
    """One reading of one text; places in it are numbers of characters.

    Attributes:
        now: what the elements say.
    """

    def __init__(self, text: str, each: Callable[[Any], Any], before: Known | None, decoder: json.JSONDecoder) -> None:
        self.now = Known()
        self._text = text
        self._each = each
        before = before or Known()
        self._texts, self._made = [*before.texts, _NOTHING], [*before.made, None]
        self._places = {mark: place for place, (_, _, mark) in enumerate(before.texts)}
        self._place = 0  # of the one that is expected next
        self._parsed = decoder.raw_decode
        hook: Callable[[list[tuple[str, Any]]], Any] | None = decoder.object_pairs_hook
        self._hook = hook or dict

    def value(self, at: int, path: Sequence[str | None]) -> tuple[Any, int]:
        """Return the value that begins at a place, and where it ends. ``path``: what leads to the list from here."""
        opening = self._text[at : at + 1]
        if opening == "{" and path:
            return self._object(at, path)
        return self._list(at, path) if opening == "[" else self._parsed(self._text, at)

    def _list(self, at: int, path: Sequence[str | None]) -> tuple[list[Any], int]:
        at = _skip(self._text, at + 1)
        if self._text[at : at + 1] == "]":
            return [], at + 1
        return self._objects(at, path) if path else self._elements(at)

    def _objects(self, at: int, path: Sequence[str | None]) -> tuple[list[Any], int]:
        """Return what stands in a list on the way: objects, if it leads on."""
        text, found = self._text, []
        while True:
            one, at = self._object(at, path) if text[at : at + 1] == "{" else self._parsed(text, at)
            found.append(one)
            at = _skip(text, at)
            if text[at : at + 1] != ",":
                return found, self._end(at)
            at = _skip(text, at + 1)

    def _elements(self, at: int) -> tuple[list[Any], int]:
        """Return what is made of each element, in as few steps as there can be: there are very many of them.

        Most are what came next the last time; others are looked for among those that began like them.
        """
        text, texts, before, places = self._text, self._texts, self._made, self._places
        now_texts, now_made = self.now.texts, self.now.made
        place, last, first = self._place, len(texts) - 1, len(now_made)
        while True:
            known, made = texts[place], before[place]
            if hash(text[at : at + known[0]]) != known[1]:
                mark = hash(text[at : at + _BEGINNING])
                other = places.get(mark)
                if other is not None:
                    place = other
                    known, made = texts[place], before[place]
                if other is None or hash(text[at : at + known[0]]) != known[1]:
                    one, end = self._parsed(text, at)
                    # the text of an object says where it ends, unlike that of a number
                    known = end - at, hash(text[at:end]) if type(one) is dict else _NEVER, mark
                    made = self._each(one)
            at += known[0]
            now_texts.append(known)
            now_made.append(made)
            if place < last:
                place += 1
            if text[at : at + 1] != ",":
                at = _skip(text, at)
                if text[at : at + 1] != ",":
                    self._place = place
                    return now_made[first:], self._end(at)
            at += 1
            if text[at : at + 1] == " ":
                at += 1
            if text[at : at + 1] <= " ":
                at = _skip(text, at)

    def _end(self, at: int) -> int:
        """Return where a list ends that has no further element."""
        if self._text[at : at + 1] != "]":
            raise json.JSONDecodeError("Expecting ',' delimiter", self._text, at)
        return at + 1

    def _object(self, at: int, path: Sequence[str | None]) -> tuple[Any, int]:
        text = self._text
        pairs: list[tuple[str, Any]] = []
        at = _skip(text, at + 1)
        if text[at : at + 1] == "}":
            return self._hook(pairs), at + 1
        while True:
            if text[at : at + 1] != '"':
                raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
            key, at = self._parsed(text, at)
            at = _skip(text, at)
            if text[at : at + 1] != ":":
                raise json.JSONDecodeError("Expecting ':' delimiter", text, at)
            at = _skip(text, at + 1)
            leads = path[0] in {key, None} and text[at : at + 1] == "["
            value, at = self._list(at, path[1:]) if leads else self._parsed(text, at)
            pairs.append((key, value))
            at = _skip(text, at)
            mark = text[at : at + 1]
            if mark == "}":
                return self._hook(pairs), at + 1
            if mark != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    """Return where what follows white space begins."""
    if text[at : at + 1] > " ":
        return at
    space = _SPACE.match(text, at)
    return at if space is None else space.end()
