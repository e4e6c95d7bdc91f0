"""Dependencies point one way, and each foreign thing has one home."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import engram_local

PACKAGE = Path(engram_local.__file__).parent

LAYERS = [
    # A module may import from the lines above its own, and from its own package.
    {"errors", "events", "figures", "kernels", "system", "units"},
    {"spec", "model_spec", "hardware", "memlock", "relay"},
    {"scratch_files", "settings", "telemetry"},
    {"chat", "memory", "llama"},
    {"formats"},
    {"catalog", "residency"},
    {"attachment", "model_files"},
    {"loading", "local_models"},
    {"sequence", "answer"},
    {"measuring"},
    {"engine"},
    {"bench", "compare"},
    {"probe", "sizing"},
    {"opening"},
    {"known_hardware", "worker"},
    {"cli"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

HOMES = {
    "ctypes": {"llama", "memory/libc.py"},
    "llama_cpp": {"llama"},
    "textual": set(),
    "rich": {"sizing/render/text.py"},
    "tui": {"cli/tui.py"},
    "safetensors": {"formats", "cli/convert.py"},
    "gguf": {"formats", "memory/rows.py", "cli"},
    "numba": {"memory", "llama", "kernels.py"},
}
"""Foreign modules, and the folders or files that may import them."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def place(path: Path) -> str:
    """Return the path within the package: "memory/libc.py"."""
    return path.relative_to(PACKAGE).as_posix()


def imported(path: Path) -> list[str]:
    """Return the full names of all that a module imports, wherever it does."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)} has a relative import"
            names.append(node.module or "")
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def own_modules() -> dict[str, Path]:
    """Return all of our modules by their full names."""
    found = {}
    for path in modules():
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = path
    return found


def test_every_module_has_a_layer() -> None:
    found = {
        path.stem
        for path in PACKAGE.iterdir()
        if not path.name.startswith("_")
        and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert found == set(RANK)


def test_imports_point_up_the_list() -> None:
    wrong = []
    for path in modules():
        home = place(path).split("/")[0].removesuffix(".py")
        if home not in RANK:  # the test above tells
            continue
        for name in imported(path):
            package, _, rest = name.partition(".")
            target = rest.split(".")[0]
            if package != "engram_local" or target not in RANK or target == home:
                continue
            if RANK[target] >= RANK[home]:
                wrong.append(f"{place(path)} imports {name}")
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    paths = own_modules()
    graph = {
        name: {target for target in imported(path) if target in paths} - {name}
        for name, path in paths.items()
    }
    for name, targets in graph.items():
        # `from a.b import c` runs a's __init__ too, which is not what is asked here.
        graph[name] = {
            target
            for target in targets
            if not any(other.startswith(target + ".") for other in targets)
        }
    assert len(list(TopologicalSorter(graph).static_order())) == len(paths)


def test_foreign_modules_are_imported_in_their_home_only() -> None:
    wrong = []
    for path in modules():
        where = place(path)
        for name in imported(path):
            homes = HOMES.get(name.split(".")[0])
            if homes is not None and not any(
                where == home or where.startswith(home + "/") for home in homes
            ):
                wrong.append(f"{where} imports {name}")
    assert wrong == []


def test_errors_units_and_events_import_nothing_of_ours() -> None:
    for name in LAYERS[0]:
        names = imported(PACKAGE / f"{name}.py")
        assert [one for one in names if one.startswith("engram_local")] == []


def test_memory_runs_without_llama_cpp() -> None:
    for path in sorted((PACKAGE / "memory").glob("*.py")):
        assert not any("llama" in name for name in imported(path)), place(path)


APP = PACKAGE.parent / "tui"

APP_KNOWS = {
    # Plain values and words, files by their headers, and the engine by its protocol.
    "errors",
    "events",
    "units",
    "catalog",
    "chat",
    "formats",
    "hardware",
    "known_hardware",
    "local_models",
    "model_files",
    "model_spec",
    "probe",
    "settings",
    "sizing",
    "telemetry",
    "worker",
}


def test_the_app_draws_and_never_computes() -> None:
    """It knows the engine's process by its protocol, not the engine."""
    names = {name for path in sorted(APP.rglob("*.py")) for name in imported(path)}
    own = {name.split(".")[1] for name in names if name.startswith("engram_local.")}
    assert own - {"__version__"} == APP_KNOWS


def test_widgets_know_no_screens_and_values_know_no_widgets() -> None:
    """Of what is in `tui/` itself, only some modules put screens and widgets together.

    loading.py and perform.py name the app and the chat as types.
    """
    above = {"app.py", "loading.py", "modes.py", "perform.py"}
    wrong = []
    for path in sorted(APP.rglob("*.py")):
        where = path.relative_to(APP).as_posix()
        forbidden = {
            "screens/": ("modes",),
            "widgets/": ("modes", "app", "screens"),
        }.get(where.removesuffix(path.name), ("modes", "app", "screens", "widgets"))
        if where not in above:
            wrong += [
                f"{where} imports {name}"
                for name in imported(path)
                if name.startswith("tui.") and name.split(".")[1] in forbidden
            ]
    assert wrong == []
