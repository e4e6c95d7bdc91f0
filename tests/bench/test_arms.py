"""Which arms there are, and what makes them differ."""

from __future__ import annotations

import pytest

from engram_local.bench.arms import ATTACHED, NATIVE, NATIVE_ON_DRIVE
from engram_local.errors import UsageError
from engram_local.settings import Settings


def test_without_a_choice_all_warm_arms_run() -> None:
    assert ATTACHED.choose(None) == ATTACHED.default
    assert ATTACHED.choose(None, cold=True) == (*ATTACHED.default, *ATTACHED.cold)
    assert {arm.cold for arm in ATTACHED.default} == {False}
    assert {arm.cold for arm in ATTACHED.cold} == {True}


def test_arms_are_chosen_by_name() -> None:
    names = ["ram", "mmap cold", "mmap", "ram"]
    assert [arm.name for arm in ATTACHED.choose(names)] == ["ram", "mmap cold", "mmap"]
    cold = ATTACHED.choose(["mmap cold"], cold=True)
    assert [arm.name for arm in cold] == [
        "mmap cold",
        "mmap cold no prefetch",
        "direct cold",
    ]


@pytest.mark.parametrize("name", ["tape", ""])
def test_an_unknown_arm_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"no arm '{name}'") as caught:
        ATTACHED.choose([name])
    assert "mmap no prefetch" in (caught.value.hint or "")


def test_an_arm_changes_three_settings_and_no_other() -> None:
    user = Settings(n_ctx=128, n_threads=1, prefetch=False)
    (late,) = ATTACHED.choose(["mmap no prefetch"])
    (ram,) = ATTACHED.choose(["ram"])
    (reference,) = ATTACHED.choose(["reference"])
    assert late.settings(user) == Settings(
        n_ctx=128, n_threads=1, memory_tier="mmap", prefetch=False
    )
    assert ram.settings(user) == Settings(n_ctx=128, n_threads=1, memory_tier="ram")
    assert reference.settings(user).reference
    assert ATTACHED.base.settings(user) == user


def test_the_arms_without_a_memory_may_be_named() -> None:
    assert ATTACHED.choose(["none", "ram", "none again"]) == ATTACHED.choose(["ram"])


def test_a_model_with_its_own_table_is_measured_against_the_table_in_ram() -> None:
    assert [arm.name for arm in NATIVE.choose(None)] == ["llama.cpp lazy", "mmap"]
    lazy, ours = NATIVE.default
    assert NATIVE.base.settings(Settings()).memory_tier == "ram"
    assert lazy.settings(Settings()) == Settings(memory_tier="mmap", prefetch=False)
    assert ours.settings(Settings()) == Settings(memory_tier="mmap")
    assert NATIVE.choose(["resident", "mmap cold"]) == (NATIVE.cold[1],)
    assert {arm.cold for arm in NATIVE_ON_DRIVE.choose(None)} == {True}


def test_all_suites_know_which_of_their_arms_is_slow() -> None:
    for suite in (NATIVE, NATIVE_ON_DRIVE):
        names = {arm.name for arm in (suite.base, *suite.default, *suite.cold)}
        assert suite.slow < names or not suite.slow
