"""Settings: flags > environment > config file > defaults, and nothing unknown."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path

import pytest

from engram_local.errors import FileError, UsageError
from engram_local.settings import (
    Settings,
    TuiSettings,
    config_path,
    default_threads,
    resolve,
    resolve_tui,
)


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Write a config file and return the environment that points to it."""

    def write(text: str) -> dict[str, str]:
        environ = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
        path = config_path(environ)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return environ

    return write


Config = Callable[[str], dict[str, str]]


def test_without_anything_there_are_defaults(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert resolve({}, environ=environ) == Settings()


def test_flags_beat_environment_beats_file_beats_defaults(config: Config) -> None:
    environ = config("top_k = 11\nn_ctx = 111\nseed = 1111\n")
    environ |= {"ENGRAM_LOCAL_N_CTX": "222", "ENGRAM_LOCAL_SEED": "2222"}
    settings = resolve({"seed": 3333}, environ=environ)
    assert settings.seed == 3333
    assert settings.n_ctx == 222
    assert settings.top_k == 11
    assert settings.top_p == Settings().top_p


def test_other_defaults_are_weaker_than_what_the_user_says(config: Config) -> None:
    environ = config("top_k = 11\n") | {"ENGRAM_LOCAL_SEED": "2"}
    defaults = {"top_k": 1, "seed": 1, "n_ctx": 1, "temperature": 0.0}
    settings = resolve({"n_ctx": 3}, defaults=defaults, environ=environ)
    assert (settings.top_k, settings.seed, settings.n_ctx) == (11, 2, 3)
    assert settings.temperature == 0.0


def test_a_flag_that_was_not_given_beats_nothing(config: Config) -> None:
    environ = config("top_k = 11\n")
    assert resolve({"top_k": None}, environ=environ).top_k == 11


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("n_ctx", "0", 0),
        ("n_threads", "3", 3),
        ("temperature", "0.5", 0.5),
        ("temperature", "1", 1.0),
        ("prefetch", "false", False),
        ("prefetch", "0", False),
        ("prefetch", "TRUE", True),
        ("memory_tier", "ram", "ram"),
        ("max_tokens", "-1", -1),
    ],
)
def test_the_environment_is_read_as_the_type_of_the_field(
    tmp_path: Path, key: str, text: str, value: object
) -> None:
    environ = {
        "XDG_CONFIG_HOME": str(tmp_path),
        f"ENGRAM_LOCAL_{key.upper()}": text,
    }
    found = getattr(resolve({}, environ=environ), key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "kind"),
    [
        ("N_CTX", "many", "int"),
        ("N_CTX", "1.5", "int"),
        ("N_CTX", "", "int"),
        ("TEMPERATURE", "warm", "float"),
        ("PREFETCH", "maybe", "bool"),
        ("PREFETCH", "", "bool"),
        ("SEED", "None", "int"),
    ],
)
def test_a_wrong_type_in_the_environment_is_refused(
    tmp_path: Path, key: str, text: str, kind: str
) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path), f"ENGRAM_LOCAL_{key}": text}
    with pytest.raises(UsageError, match=f"ENGRAM_LOCAL_{key} is .* no {kind}"):
        resolve({}, environ=environ)


def test_an_unknown_name_in_the_environment_is_refused(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "ENGRAM_LOCAL_N_CTZ": "1"}
    with pytest.raises(
        UsageError, match=r"\(ENGRAM_LOCAL_N_CTZ\) sets n_ctz"
    ) as caught:
        resolve({}, environ=environ)
    assert caught.value.exit_code == 2
    assert "n_ctx" in (caught.value.hint or "")


def test_an_unknown_key_in_the_file_is_refused(config: Config) -> None:
    environ = config("n_ctz = 1\n")
    with pytest.raises(UsageError, match=r"config\.toml sets n_ctz, which is no"):
        resolve({}, environ=environ)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("n_ctx = '4096'", "int"),
        ("n_ctx = 1.5", "int"),
        ("n_ctx = true", "int"),
        ("temperature = true", "float"),
        ("temperature = '1'", "float"),
        ("prefetch = 1", "bool"),
        ("memory_tier = 1", "str"),
        ("n_threads = [1]", "int"),
        ("[n_ctx]\na = 1", "int"),
    ],
)
def test_a_wrong_type_in_the_file_is_refused(
    config: Config, line: str, kind: str
) -> None:
    environ = config(line)
    with pytest.raises(UsageError, match=f"which is no {kind}"):
        resolve({}, environ=environ)


def test_a_whole_number_is_a_float_too(config: Config) -> None:
    assert resolve({}, environ=config("temperature = 1\n")).temperature == 1


@pytest.mark.parametrize("text", ["n_ctx = ", "= 1", "a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_refused(config: Config, text: str) -> None:
    environ = config(text)
    with pytest.raises(FileError, match=r"config\.toml cannot be read") as caught:
        resolve({}, environ=environ)
    assert caught.value.exit_code == 3


def test_a_file_that_is_no_text_is_refused(config: Config) -> None:
    environ = config("")
    config_path(environ).write_bytes(b"\xff\xfe")
    with pytest.raises(FileError, match=r"config\.toml cannot be read"):
        resolve({}, environ=environ)


def test_a_folder_in_place_of_the_file_is_refused(config: Config) -> None:
    environ = config("")
    config_path(environ).unlink()
    config_path(environ).mkdir()
    with pytest.raises(FileError, match=r"config\.toml cannot be read"):
        resolve({}, environ=environ)


def test_a_file_that_may_not_be_read_is_refused(
    config: Config, as_nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    config("n_ctx = 1\n")
    Path("home/engram-local/config.toml").chmod(0)
    with as_nobody(), pytest.raises(FileError, match="Permission denied"):
        resolve({}, environ={"XDG_CONFIG_HOME": "home"})


def test_a_folder_that_may_not_be_searched_is_refused(
    config: Config, as_nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    config("n_ctx = 1\n")
    folder = Path("home/engram-local")
    folder.chmod(0)
    try:
        with as_nobody(), pytest.raises(FileError, match="Permission denied"):
            resolve({}, environ={"XDG_CONFIG_HOME": "home"})
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_ctx", -1),
        ("n_ctx", 2**31),
        ("n_batch", 0),
        ("n_ubatch", 0),
        ("n_threads", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("seed", -1),
        ("seed", 2**32 - 1),
        ("memory_tier", "tape"),
        ("flash_attention", "yes"),
        ("cache_type_k", "q5_k"),
        ("cache_type_v", ""),
    ],
)
def test_a_value_out_of_range_is_refused(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"^{key} is ") as caught:
        resolve({key: value}, environ={})
    assert "possible" in caught.value.message


def test_the_config_file_lies_where_xdg_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    tail = Path("engram-local") / "config.toml"
    assert config_path({}) == tmp_path / ".config" / tail
    assert config_path({"XDG_CONFIG_HOME": ""}) == tmp_path / ".config" / tail
    assert config_path({"XDG_CONFIG_HOME": "/elsewhere"}) == Path("/elsewhere") / tail


def test_there_is_a_thread_at_least() -> None:
    assert default_threads() >= 1


def test_every_setting_says_its_type_plainly() -> None:
    """The parser knows these; another one would fail where it is first used."""
    kinds = {str(field.type).removesuffix(" | None") for field in fields(Settings)}
    assert kinds == {"int", "float", "bool", "str"}


def test_the_table_of_the_chat_app_is_no_setting_of_models(config: Config) -> None:
    environ = config('top_k = 11\n[tui]\ntheme = "nord"\n')
    assert resolve({}, environ=environ).top_k == 11
    assert resolve_tui(environ) == TuiSettings(theme="nord")


@pytest.mark.parametrize(
    "text",
    [
        '[tui.keys]\n"chat.copy" = "f5"\n',
        '[tui.keys]\nchat.copy = "f5"\n',
        '[tui.keys.chat]\ncopy = "f5"\n',
    ],
)
def test_keys_may_be_written_with_and_without_quotes(config: Config, text: str) -> None:
    assert resolve_tui(config(text)).keys == {"chat.copy": "f5"}


def test_without_a_config_file_the_app_has_its_defaults(tmp_path: Path) -> None:
    assert resolve_tui({"XDG_CONFIG_HOME": str(tmp_path)}) == TuiSettings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tui = 1", "sets tui to 1, which is no table"),
        ("[tui]\ntheme = 1", "sets tui.theme to 1, which is no str"),
        ('[tui]\ncolour = "red"', "sets tui.colour, which is no setting"),
        ("[tui]\nkeys = 1", "sets tui.keys to 1, which is no table"),
        ("[tui.keys]\nchat.copy = 1", "sets tui.keys to 1, which is no table"),
    ],
)
def test_a_wrong_value_for_the_app_is_refused(
    config: Config, text: str, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        resolve_tui(config(text))
