"""What the documents claim and a program can check."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

from engram_local import __version__
from engram_local.cli import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def tree_paths() -> set[str]:
    """Return what the tree names, by its indentation: "tui/screens/chat.py"."""
    found: set[str] = set()
    folders: list[str] = []
    for line in README.split("## Files")[1].split("```")[1].splitlines():
        names = re.match(r"( *)((?:[\w/]+(?:/|\.py)(?: +|$))+)", line)
        if names is None:  # it goes on with what the line above says
            continue
        folders = folders[: len(names[1]) // 2]
        found |= {"".join([*folders, name]) for name in names[2].split()}
        folders.append(names[2].split()[0])
    return found


def test_readme_tree_names_every_module() -> None:
    modules = {
        path.relative_to(ROOT).as_posix()
        for folder in ("engram_local", "models/train", "tui")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert modules - tree_paths() == set()


def test_readme_tree_names_nothing_that_is_gone() -> None:
    tree = README.split("## Files")[1].split("```")[1]
    named = set(re.findall(r"\b(\w+\.py)\b", tree))
    there = {path.name for path in ROOT.rglob("*.py") if ".venv" not in str(path)}
    assert named - there == set()


def test_readme_commands_exist() -> None:
    named = set(re.findall(r"engram-local (\w+)", README))
    assert named <= set(COMMANDS)
    assert set(COMMANDS) <= named


def test_newest_change_is_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    names = re.findall(r"^## \[(\S+)\]", changelog, re.MULTILINE)
    released = [name for name in names if name != "Unreleased"]
    assert released[0] == __version__


def test_links_in_documents_lead_somewhere() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for document in documents:
        links = re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8"))
        missing = [link for link in links if not (document.parent / link).exists()]
        assert missing == [], document.name


def test_benchmark_scripts_import_what_there_is() -> None:
    """They are not run here: some need other people's programs."""
    missing = []
    for path in (ROOT / "docs" / "benchmarks").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and "engram_local" in str(node.module):
                module = import_module(str(node.module))
                missing += [
                    f"{path.name}: {node.module}.{alias.name}"
                    for alias in node.names
                    if not hasattr(module, alias.name)
                ]
    assert missing == []
