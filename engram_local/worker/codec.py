"""Requests and events <-> lines of JSON, one each. Strict: both sides are of one kind.

Text survives as it is, also newlines, control characters and lone surrogates: a line is
ASCII. What a field may hold is read from the annotations in protocol.py.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from engram_local.errors import ProtocolError
from engram_local.worker.protocol import Event, Request

_Read = Callable[[Any, str], Any]
"""JSON -> a value; the text says where it stands, for errors."""

_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "text"}


def encode(number: int, value: Request | Event) -> bytes:
    r"""Return a line, with its \n. number: of the request."""
    message = {"id": number, "kind": type(value).__name__, "value": value}
    return json.dumps(message, default=_fields_of).encode("ascii") + b"\n"


def decode_request(line: bytes) -> tuple[int, Request]:
    """Return a request and its number. Raises ProtocolError, also UsageError."""
    number, request = _decode(line, _kinds(Request))
    return number, request


def decode_event(line: bytes) -> tuple[int, Event]:
    """Return an event and the number of its request. Raises ProtocolError."""
    number, event = _decode(line, _kinds(Event))
    return number, event


def _decode(line: bytes, kinds: Mapping[str, type]) -> tuple[int, Any]:
    try:
        message = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{reprlib.repr(line)} is no JSON: {error}") from error
    names = ("id", "kind", "value")
    number, kind, value = _take(message, names, "a message")
    if not isinstance(kind, str) or kind not in kinds:
        found = reprlib.repr(kind)
        raise ProtocolError(f"{found} is no kind of message; known: {', '.join(kinds)}")
    return _reader(int)(number, "id"), _reader(kinds[kind])(value, kind)


def _fields_of(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _take(value: Any, names: tuple[str, ...], where: str) -> list[Any]:
    """Return the values of all these keys, and of no others."""
    if not isinstance(value, dict):
        raise _wrong(value, where, "an object")
    for name in (*value, *names):
        if name not in value or name not in names:
            found = "no" if name in names else "an unknown"
            raise ProtocolError(f"{where} has {found} field {reprlib.repr(name)}")
    return [value[name] for name in names]


def _wrong(value: Any, where: str, needed: str) -> ProtocolError:
    return ProtocolError(f"{where} is {reprlib.repr(value)}, it must be {needed}")


@cache
def _kinds(union: Any) -> Mapping[str, type]:
    return {kind.__name__: kind for kind in get_args(union)}


@cache
def _reader(hint: Any) -> _Read:
    """Return what reads values of a type; the types are those in protocol.py."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _dataclass_reader(hint)
    if origin is tuple:
        assert arguments[1:] == (...,)
        return _tuple_reader(arguments[0])
    if origin is dict:
        assert arguments[0] is int
        return _dict_reader(arguments[1])
    if origin is Literal:
        return _one_of(arguments)
    if origin in (Union, UnionType):
        present, nothing = arguments
        assert nothing is NoneType
        return _optional_reader(present)
    return _plain_reader(hint)


def _dataclass_reader(kind: type) -> _Read:
    readers = {name: _reader(hint) for name, hint in get_type_hints(kind).items()}
    names = tuple(readers)

    def read(value: Any, where: str) -> Any:
        parts = zip(names, _take(value, names, where), strict=True)
        return kind(**{name: readers[name](x, f"{where}.{name}") for name, x in parts})

    return read


def _tuple_reader(element: Any) -> _Read:
    read_one = _reader(element)

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, list):
            raise _wrong(value, where, "a list")
        return tuple(read_one(one, where) for one in value)

    return read


def _dict_reader(element: Any) -> _Read:
    """JSON has text as keys only; ours are integers."""
    read_one = _reader(element)

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise _wrong(value, where, "an object")
        try:
            return {int(key): read_one(one, where) for key, one in value.items()}
        except ValueError:
            raise _wrong(value, where, "an object with integers as keys") from None

    return read


def _one_of(choices: tuple[str, ...]) -> _Read:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise _wrong(value, where, f"one of {', '.join(choices)}")
        return value

    return read


def _optional_reader(present: Any) -> _Read:
    read_one = _reader(present)

    def read(value: Any, where: str) -> Any:
        return None if value is None else read_one(value, where)

    return read


def _plain_reader(kind: Any) -> _Read:
    kinds = (int, float) if kind is float else kind

    def read(value: Any, where: str) -> Any:
        # A bool is an int for Python.
        if not isinstance(value, kinds) or (
            isinstance(value, bool) and kind is not bool
        ):
            raise _wrong(value, where, _NAMES[kind])
        return value

    return read
