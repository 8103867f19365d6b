"""Rules that hold for the whole repository, read off the syntax trees of its files."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SOURCE_FOLDERS = ("persia_core", "spark_jobs", "dags", "infra", "native", "tests", "benchmarks")
MAX_LINES = 400

OBJECT_LOADERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
TORCH_PICKLES = {"torch.load", "torch.save"}


def files(*folders: str, suffixes: tuple[str, ...] = (".py",)) -> list[Path]:
    found = [
        path
        for folder in folders
        for path in sorted((PROJECT / folder).rglob("*"))
        if path.suffix in suffixes and "__pycache__" not in path.parts and "build" not in path.parts
    ]
    assert found, f"no {suffixes} under {folders}: the rule would hold for nothing"
    return found


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(PROJECT)}:{getattr(node, 'lineno', 0)}"


def imported(nodes: Iterator[ast.AST] | list[ast.AST]) -> Iterator[tuple[ast.AST, str]]:
    """(node, absolute module name) of the imports among `nodes`, `from a import b` as a and as a.b."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node, node.module
            for alias in node.names:
                yield node, f"{node.module}.{alias.name}"


def unsafe(module: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Loaders that run code, eval and exec, and shell strings."""
    for node, name in imported(ast.walk(module)):
        if name.partition(".")[0] in OBJECT_LOADERS:
            yield node, f"imports {name}"
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in {"eval", "exec"} | SHELLS | TORCH_PICKLES:
            yield node, f"calls {called}"
        for keyword in node.keywords:
            if keyword.arg == "shell" and not (
                isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            ):
                yield node, "passes shell="
            if keyword.arg == "allow_pickle" and not (
                isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            ):
                yield node, "passes allow_pickle="


def top_level(module: ast.Module) -> Iterator[ast.AST]:
    """Statements that run when the module is imported (not those under TYPE_CHECKING or in functions)."""
    pending: list[ast.AST] = list(module.body)
    while pending:
        node = pending.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        pending += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def module_name(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan 1972), each sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component: list[str] = []
            while not component or component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def test_no_file_is_longer_than_one_idea() -> None:
    long = {
        str(path.relative_to(PROJECT)): lines
        for path in files(*SOURCE_FOLDERS, suffixes=(".py", ".cc", ".h"))
        if "golden" not in path.parts
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not long, f"over {MAX_LINES} lines; split them by idea: {long}"


def test_no_pickle_eval_or_shell_strings() -> None:
    found = [
        f"{place(path, node)} {what}"
        for path in files("persia_core", "spark_jobs", "dags")
        for node, what in unsafe(tree(path))
    ]
    assert not found, found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import dill",
        "eval('1')",
        "exec(code)",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=flag)",
        "os.system('ls')",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_rule_sees(code: str) -> None:
    assert list(unsafe(ast.parse(code)))


def test_airflow_is_imported_by_its_own_packages_only() -> None:
    allowed = (PROJECT / "persia_core" / "airflow", PROJECT / "dags", PROJECT / "tests")
    found = [
        f"{place(path, node)} imports {name}"
        for path in files(*SOURCE_FOLDERS)
        if not any(path.is_relative_to(folder) for folder in allowed)
        for node, name in imported(ast.walk(tree(path)))
        if name.partition(".")[0] == "airflow"
    ]
    assert not found, found


def test_dag_files_hold_no_functions_or_classes() -> None:
    found = [
        f"{place(path, node)} defines {node.name}"
        for path in files("dags")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    assert not found, f"a DAG file is wiring only: {found}"


def test_no_module_is_a_drawer_for_anything() -> None:
    drawers = {"utils", "util", "helpers", "helper", "misc", "common"}
    found = [str(path.relative_to(PROJECT)) for path in files(*SOURCE_FOLDERS) if path.stem in drawers]
    assert not found, found


def import_graph() -> dict[str, set[str]]:
    """What each module of ours imports of ours when it is imported.

    `from package import module` counts as an import of the module alone: a package's __init__ may name its
    modules, and they each other.
    """
    sources = {module_name(path): path for path in files("persia_core", "spark_jobs", "dags")}
    graph: dict[str, set[str]] = {}
    for name, path in sources.items():
        by_statement: dict[ast.AST, set[str]] = {}
        for node, other in imported(list(top_level(tree(path)))):
            if other in sources and other != name:
                by_statement.setdefault(node, set()).add(other)
        graph[name] = {
            other
            for others in by_statement.values()
            for other in others
            if not any(deeper.startswith(f"{other}.") for deeper in others)
        }
    return graph


def test_no_import_cycle_between_modules() -> None:
    assert cycles(import_graph()) == []


def test_cycles_are_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert cycles({"a": {"b"}, "b": set()}) == []


def test_what_people_start_is_imported_by_nothing_below_it() -> None:
    """The DAGs' package, the demo and the platform are ends: only the command line reaches them."""
    ends = ("persia_core.airflow", "persia_core.demo", "persia_core.platform")
    may = (*ends, "persia_core.cli", "dags")
    found = [
        f"{name} imports {other}"
        for name, others in import_graph().items()
        for other in others
        if other.startswith(ends) and not name.startswith(may)
    ]
    assert not found, found


def test_links_between_documents_lead_somewhere() -> None:
    link = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
    documents = [*PROJECT.glob("*.md"), *files("docs", "infra", suffixes=(".md",))]
    broken = []
    for document in documents:
        for target in link.findall(document.read_text(encoding="utf-8")):
            path, _, anchor = target.partition("#")
            if "://" in target or target.startswith("mailto:"):
                continue
            found = document.parent / path if path else document
            where = f"{document.relative_to(PROJECT)}: {target}"
            if not found.exists():
                broken.append(where)
            elif anchor and found.suffix == ".md" and anchor not in anchors(found):
                broken.append(f"{where} (no such heading)")
    assert not broken, broken


def anchors(document: Path) -> set[str]:
    """The anchors that a heading gets: lower case, punctuation dropped, spaces as hyphens."""
    headings = re.findall(r"^#+\s+(.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
