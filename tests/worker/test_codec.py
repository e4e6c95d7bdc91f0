"""Everything that crosses the pipe comes out as it went in, or is refused."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from engram_local.errors import EngramError, ProtocolError, UsageError
from engram_local.events import TextChunk
from engram_local.worker.codec import decode_event, decode_request, encode
from engram_local.worker.protocol import Cancel, ChatMessage, Event, Generate, Request
from tests.worker.samples import EVENTS, REQUESTS


def line(kind: str, value: Any, **more: Any) -> bytes:
    """Return a message as anybody may write it."""
    return json.dumps({"id": 1, "kind": kind, "value": value, **more}).encode()


def test_there_is_a_sample_of_every_kind() -> None:
    assert {type(one) for one in REQUESTS} == set(get_args(Request))
    assert {type(one) for one in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: type(one).__name__)
def test_a_request_comes_back(request_: Request) -> None:
    assert decode_request(encode(7, request_)) == (7, request_)


@pytest.mark.parametrize("event", EVENTS, ids=lambda one: type(one).__name__)
def test_an_event_comes_back(event: Event) -> None:
    number, back = decode_event(encode(7, event))
    assert (number, back) == (7, event)
    assert type(back) is type(event)


def test_every_character_survives_on_one_line() -> None:
    # Apart: a high surrogate and a low one beside it are one character, for JSON.
    text = " ".join(map(chr, [*range(0x300), *range(0xD7F0, 0xE010), 0x2028, 0x1F600]))
    encoded = encode(1, TextChunk(text=text))
    assert encoded.endswith(b"\n") and len(encoded.splitlines()) == 1
    assert decode_event(encoded) == (1, TextChunk(text=text))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"", "is no JSON"),
        (b"\xff\xfe{}", "is no JSON"),
        (b"Loading model...\n", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"id": ' + b"9" * 5000 + b"}", "is no JSON"),
        (b"[]", "a message is \\[\\], it must be an object"),
        (b"{}", "a message has no field 'id'"),
        (line("TextChunk", {"text": "a"}, more=1), "an unknown field 'more'"),
        (line("TextChunk", {"text": "a"}, id="1"), "id is '1', it must be an integer"),
        (line("TextChunk", {"text": "a"}, id=True), "id is True, it must be an int"),
        (line("Cancel", {}), "'Cancel' is no kind of message; known: Hello, "),
        (b'{"id": 1, "kind": [], "value": {}}', r"\[\] is no kind of message"),
        (line("TextChunk", None), "TextChunk is None, it must be an object"),
        (line("TextChunk", {}), "TextChunk has no field 'text'"),
        (line("TextChunk", {"text": "a", "x": 1}), "has an unknown field 'x'"),
        (line("TextChunk", {"text": None}), "TextChunk.text is None, it must be text"),
        (line("Loading", {"what": "", "part": "1"}), "it must be a number"),
        (line("Loading", {"what": "", "part": True}), "it must be a number"),
        (line("ArmStarted", {"memory_on": 1}), "it must be true or false"),
        (line("TableMap", {"strips": {}}), "it must be a list"),
        (line("TableMap", {"strips": [3]}), "TableMap.strips is 3, it must be an obj"),
    ],
)
def test_a_strange_line_is_refused(bad: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        decode_event(bad)


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        ([], "it must be an object"),
        ({"two": 0.5}, "an object with integers as keys"),
        ({"2": "0.5"}, "it must be a number"),
    ],
)
def test_keys_of_dictionaries_are_integers(gates: object, words: str) -> None:
    finished = json.loads(encode(1, EVENTS[7]))
    finished["value"]["memory"]["gate_mean"] = gates
    with pytest.raises(ProtocolError, match=words):
        decode_event(json.dumps(finished).encode())


def test_a_role_is_one_of_three() -> None:
    message = ChatMessage(role="robot", content="")  # type: ignore[arg-type]
    request = Generate(messages=(message,), settings=REQUESTS[0].settings)  # type: ignore[union-attr]
    with pytest.raises(ProtocolError, match="one of system, user, assistant"):
        decode_request(encode(1, request))


def test_settings_are_checked_as_everywhere() -> None:
    request = json.loads(encode(1, REQUESTS[1]))
    request["value"]["settings"]["top_p"] = 2
    with pytest.raises(UsageError, match="top_p is 2"):
        decode_request(json.dumps(request).encode())


def test_an_event_is_no_request() -> None:
    with pytest.raises(EngramError, match="is no kind of message"):
        decode_request(encode(1, EVENTS[0]))
    assert decode_request(encode(2, Cancel())) == (2, Cancel())
