"""The import graph: no circle, no engine that knows another one, the spine or a command line; and what is light."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "videopainter"

ENGINES = ("diffusion", "propainter", "e2fgvi", "dstt", "propagation")
# What an engine's folder may import, beside itself.
BELOW_ENGINES = ("ops", "engines", "weights", "masks", "video", "utils", "metrics")
# Rooms that nothing below them may import.
ABOVE = ("inpaint", "edit", "engine", "steps", "hybrid", "batch", "web", "cli")

# Arrows that should not be there: (from, to) and why it still is. The aim is an empty table.
KNOWN: dict[tuple[str, str], str] = {}


def modules() -> dict[str, Path]:
    """Name without the package's own -> file; "" is the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_door(node: ast.AST) -> bool:
    """`if __name__ == "__main__"`, which no import runs, or what only type checkers read."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "__name__ == '__main__'",
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def statements(tree: ast.AST):
    """Every node, those of functions included, without the doors."""
    for node in ast.iter_child_nodes(tree):
        if not is_door(node):
            yield node
            yield from statements(node)


def imported(source: str, name: str, known: set[str]) -> set[str]:
    """The modules of `known` that a module imports, in functions too. What tables name as strings is not among them.

    The packages that a module lies in are imported with it, but for those that the importing module lies in, too.
    """
    out = set()
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for full in names:
            if full.split(".")[0] != "videopainter":
                continue
            inner = full.partition(".")[2]
            while inner and inner not in known:  # a name in a module
                inner = inner.rpartition(".")[0]
            while inner and not f"{name}.".startswith(f"{inner}."):
                out.add(inner)
                inner = inner.rpartition(".")[0]
    return out


def edges() -> dict[str, set[str]]:
    found = modules()
    return {name: imported(path.read_text(), name, set(found)) for name, path in found.items()}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle; [] if there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := walk(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


def test_there_is_no_circle():
    graph = edges()
    assert circle(graph) == []


def test_what_is_on_the_table_is_still_there():
    graph = edges()
    assert [arrow for arrow in KNOWN if arrow[1] not in graph.get(arrow[0], ())] == []


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    known = {"a", "b.c", "b"}
    assert imported("def f():\n  from videopainter.b import c", "a", known) == {"b.c", "b"}
    assert imported("from videopainter.b import c, x", "b.d", known) == {"b.c"}
    assert imported("if __name__ == '__main__':\n  import videopainter.b", "a", known) == set()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_imports_only_what_is_below_it(engine):
    wrong = {
        (name, other)
        for name, others in edges().items()
        if name.split(".")[0] == engine
        for other in others
        if other.split(".")[0] not in (engine, *BELOW_ENGINES)
    }
    assert wrong - set(KNOWN) == set()


def test_nothing_below_imports_the_spine_or_a_command_line():
    wrong = {
        (name, other)
        for name, others in edges().items()
        if name.split(".")[0] not in (*ABOVE, "__main__") and name != "metrics.__main__"
        for other in others
        if other.split(".")[0] in ABOVE
    }
    assert wrong - set(KNOWN) == set()
    spine = {
        (n, o)
        for n, others in edges().items()
        for o in others
        if n.split(".")[0] in ("inpaint", "engine", "steps")
    }
    assert {(n, o) for n, o in spine if o.split(".")[0] in ("cli", "batch")} - set(KNOWN) == set()


def test_the_table_of_engines_knows_their_specs_only():
    allowed = {*ENGINES, *(f"{engine}.spec" for engine in ENGINES)}
    assert {other for other in edges()["engine"] if other.split(".")[0] in ENGINES} <= allowed


def imported_by(code: str) -> set[str]:
    """The top-level modules that Python has after some code, run in a new process."""
    code = f"{code}\nimport sys; print('|', *sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True, timeout=60
    )
    return {name.split(".")[0] for name in told.stdout.rpartition("|")[2].split()}


HEAVY = {
    "numpy",
    "cv2",
    "av",
    "torch",
    "diffusers",
    "transformers",
    "PIL",
    "tqdm",
    "matplotlib",
    "huggingface_hub",
}
HELP = "import contextlib\nfrom videopainter.cli.main import main\nwith contextlib.suppress(SystemExit): main({})"


@pytest.mark.parametrize(
    "code",
    [
        "import videopainter; from videopainter import metrics, diffusion, propainter, e2fgvi",
        HELP.format(["--help"]),
        HELP.format(["inpaint", "--help"]),
        HELP.format(["batch", "--help"]),
        HELP.format(["weights", "--help"]),
        HELP.format(["metrics", "--help"]),
        HELP.format(["convert", "--help"]),
        HELP.format(["stream", "--help"]),
    ],
    ids=["import", "help", "inpaint", "batch", "weights", "metrics", "convert", "stream"],
)
def test_nothing_heavy_is_imported(code):
    assert imported_by(code) & HEAVY == set()
