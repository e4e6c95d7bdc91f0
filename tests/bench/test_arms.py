"""Which arms there are, and what makes them differ."""

from __future__ import annotations

import pytest

from engram_local.bench.arms import COLD_ARMS, NONE, WARM_ARMS, choose_arms
from engram_local.errors import UsageError
from engram_local.settings import Settings


def test_without_a_choice_all_warm_arms_run() -> None:
    assert choose_arms(None) == WARM_ARMS
    assert choose_arms(None, cold=True) == (*WARM_ARMS, *COLD_ARMS)
    assert {arm.cold for arm in WARM_ARMS} == {False}
    assert {arm.cold for arm in COLD_ARMS} == {True}


def test_arms_are_chosen_by_name() -> None:
    names = ["ram", "mmap cold", "mmap", "ram"]
    assert [arm.name for arm in choose_arms(names)] == ["ram", "mmap cold", "mmap"]
    cold = choose_arms(["mmap cold"], cold=True)
    assert [arm.name for arm in cold] == [
        "mmap cold",
        "mmap cold no prefetch",
        "direct cold",
    ]


@pytest.mark.parametrize("name", ["tape", ""])
def test_an_unknown_arm_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"no arm '{name}'") as caught:
        choose_arms([name])
    assert "mmap no prefetch" in (caught.value.hint or "")


def test_an_arm_changes_three_settings_and_no_other() -> None:
    user = Settings(n_ctx=128, n_threads=1, prefetch=False)
    (late,) = choose_arms(["mmap no prefetch"])
    (ram,) = choose_arms(["ram"])
    (reference,) = choose_arms(["reference"])
    assert late.settings(user) == Settings(
        n_ctx=128, n_threads=1, memory_tier="mmap", prefetch=False
    )
    assert ram.settings(user) == Settings(n_ctx=128, n_threads=1, memory_tier="ram")
    assert reference.settings(user).reference
    assert NONE.settings(user) == user


def test_the_arms_without_a_memory_may_be_named() -> None:
    assert choose_arms(["none", "ram", "none again"]) == choose_arms(["ram"])
