"""Signals unwind, also those whose exception Python forgets."""

from __future__ import annotations

import signal
import weakref
from collections.abc import Iterator

import pytest

from engram_local.cli.ending import unwind_when_ended


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Those that a terminal gives: the tests may run under `nohup`."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in numbers[1:]:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, SystemExit),
        (signal.SIGHUP, SystemExit),
    ],
)
def test_a_signal_raises_and_handlers_come_back(
    number: signal.Signals, kind: type[BaseException]
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(kind) as caught, unwind_when_ended() as check:
        check()  # nothing came
        signal.raise_signal(number)
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 128 + number
    assert signal.getsignal(number) == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_signal_is_raised_when_asked() -> None:
    class Thing:
        """Something that a weak reference can be of."""

    with unwind_when_ended() as check:
        thing = Thing()
        reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
        del thing  # Python prints the exception and goes on
        assert reference() is None
        with pytest.raises(KeyboardInterrupt):
            check()


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with unwind_when_ended() as check:
            signal.raise_signal(signal.SIGHUP)
            check()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
