"""What `import engram_local` offers, and how errors leave the program."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import engram_local
from engram_local import errors
from engram_local.errors import EngramError

ROOT = Path(engram_local.__file__).parents[1]


def test_every_public_name_exists() -> None:
    for name in engram_local.__all__:
        assert getattr(engram_local, name) is not None


def test_public_names_are_sorted_and_complete() -> None:
    names = engram_local.__all__
    assert names == sorted(names)
    assert set(engram_local._HOMES) | {"__version__"} == set(names)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(engram_local.__file__).read_text("utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    assert len(blocks) == 1  # if TYPE_CHECKING
    names = {
        (alias.name, (node.module or "").removeprefix("engram_local."))
        for node in blocks[0].body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert names == set(engram_local._HOMES.items())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Motor'"):
        engram_local.Motor  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "numpy", "numba", "llama_cpp", "gguf", "psutil", "textual"
    code = f"import sys, engram_local; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[]\n"


def test_the_version_is_that_of_the_distribution() -> None:
    try:
        installed = version("engram-local")
    except PackageNotFoundError:
        pytest.skip("engram-local is not installed, only its source is here")
    assert installed == engram_local.__version__


ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, EngramError)
}


@pytest.mark.parametrize("name", list(ERRORS))
def test_every_error_has_a_code_a_hint_and_an_exit_code(name: str) -> None:
    error = ERRORS[name]("what was found", hint="what to do")
    assert str(error) == error.message == "what was found"
    assert error.hint == "what to do"
    assert error.exit_code in (1, 2, 3, 4, 130)
    assert error.code.replace("-", "").islower()
    assert ERRORS[name]("x").hint is None


def test_codes_are_all_different() -> None:
    codes = [kind.code for kind in ERRORS.values()]
    assert len(set(codes)) == len(codes) > 10


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    text = errors.__doc__ or ""
    for name, kind in ERRORS.items():
        line = next(line for line in text.splitlines() if f" {name} " in line + " ")
        if line.split()[-2:-1] == ["exit"]:
            assert int(line.split()[-1]) == kind.exit_code
    assert {name for name, kind in ERRORS.items() if kind.exit_code == 3} == {
        "FileError",
        "FormatError",
        "MismatchError",
        "UnsupportedError",
    }
