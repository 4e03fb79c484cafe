"""Rules of the project that no linter knows: what files may not say, what is pinned, which verbs
there are."""

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.pins import closure, direct_requirements, pinned
from tests.unit.repository import ROOT, python_modules, tracked_files

VERBS = (
    "serve",
    "test",
    "test-slow",
    "check",
    "fmt",
    "bench",
    "train",
    "docs",
    "audit",
    "sbom",
)

ALL_EXTRAS = ("train", "tracing", "parquet", "ray", "docs", "dev")
PACKAGES = ("app", "models", "training", "evaluation", "glimpse_client")

# written so that this file does not match itself
REGISTRY_HOST = re.compile(r"py[p]i\.org|python[h]osted|npm[j]s|deb\.[d]ebian|download\.py[t]orch")
# PyTorch's own index, which an installation without a GPU asks for
CPU_WHEELS = ("deploy/cpu_wheels.py", 'INDEX = "https://download.py' + 'torch.org/whl/cpu"')
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:work|root|home|Users)/\w")


def text_files() -> Iterator[tuple[str, str]]:
    for path in tracked_files():
        data = path.read_bytes()
        if b"\0" not in data[:8192]:
            yield path.relative_to(ROOT).as_posix(), data.decode("utf-8", errors="replace")


def test_files_never_name_a_registry_or_a_machine() -> None:
    parent = ROOT.parent.as_posix() + "/"
    own_path = [parent] if parent.count("/") > 2 else []
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in text_files()
        for number, line in enumerate(text.splitlines(), 1)
        if (REGISTRY_HOST.search(line) and (name, line) != CPU_WHEELS)
        or MACHINE_PATH.search(line)
        or any(path in line for path in own_path)
    ]
    assert not found


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("https://py" + "pi.org/simple", True),
        ("cd /ro" + "ot/glimpse", True),
        ("folder/work/x and ./root/x and ~/home/x", False),
        ("https://example.org/home/page", False),
    ],
)
def test_patterns_of_forbidden_text_match_what_they_should(line: str, refused: bool) -> None:
    assert bool(REGISTRY_HOST.search(line) or MACHINE_PATH.search(line)) == refused


FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "torch.save"}
FORBIDDEN_NAMES = {"torch.hub"}


def forbidden_uses(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute):
            names = {ast.unparse(node)}
        elif isinstance(node, ast.Call):
            names = {ast.unparse(node.func)} & FORBIDDEN_CALLS
            names |= {"allow_pickle=True" for key in node.keywords if key.arg == "allow_pickle"}
        else:
            names = (
                {"bare except"}
                if isinstance(node, ast.ExceptHandler) and node.type is None
                else set()
            )
        bad = {
            name
            for name in names
            if name.split(".")[0] in FORBIDDEN_MODULES or name in FORBIDDEN_NAMES
        }
        bad |= names & (FORBIDDEN_CALLS | {"allow_pickle=True", "bare except"})
        yield from (f"{name} in line {getattr(node, 'lineno', 0)}" for name in sorted(bad))


def test_code_never_unpickles_or_evaluates() -> None:
    found = [
        f"{name}: {use}"
        for name, tree in python_modules(*PACKAGES, "benchmarks")
        for use in forbidden_uses(tree)
    ]
    assert not found


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        ("import pickle", True),
        ("from torch import hub", True),
        ("torch.load('x')", True),
        ("eval('1')", True),
        ("np.load('x', allow_pickle=True)", True),
        ("try:\n    f()\nexcept:\n    g()", True),
        ("model.eval()", False),
        ("from safetensors.torch import load_file, save_file", False),
    ],
)
def test_forbidden_uses_are_found(code: str, refused: bool) -> None:
    assert bool(list(forbidden_uses(ast.parse(code)))) == refused


def exported_names(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return None


def defined_names(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                leaf.id
                for target in targets
                for leaf in ast.walk(target)
                if isinstance(leaf, ast.Name)
            }
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def test_modules_export_names_that_exist_in_order() -> None:
    """Constants, then classes, then functions, each by name."""
    for name, tree in python_modules(*PACKAGES):
        exported = exported_names(tree)
        if exported is None:
            continue
        in_order = sorted(
            exported, key=lambda word: (not word.isupper(), not word[0].isupper(), word)
        )
        assert exported == in_order, name
        assert set(exported) <= defined_names(tree), name


def test_library_modules_all_say_what_is_public() -> None:
    silent = [
        name
        for name, tree in python_modules("models", "glimpse_client")
        if len(tree.body) > 1 and exported_names(tree) is None
    ]
    assert not silent


def test_modules_all_begin_with_a_docstring() -> None:
    silent = [
        name
        for name, tree in python_modules(*PACKAGES, "tests", "benchmarks")
        if ast.get_docstring(tree) is None
    ]
    assert not silent


# -- dependencies ----


@pytest.mark.parametrize(
    "extras", [(), ("torch",), ("train",), ("tracing",), ("parquet",), ("ray",), ALL_EXTRAS]
)
def test_dependencies_all_that_an_installation_brings_is_pinned(extras: tuple[str, ...]) -> None:
    """A CUDA build of torch brings libraries that it pins itself; pip comes with the venv."""
    direct = direct_requirements(*extras)
    pins = pinned(direct)
    brought = {
        name: importlib.metadata.version(name).partition("+")[0]
        for name in closure(direct)
        if name != "pip" and not name.startswith(("nvidia-", "cuda-", "triton"))
    }
    assert {name: pins.get(name) for name in brought} == brought


def test_dependencies_nothing_is_pinned_that_no_installation_brings() -> None:
    direct = direct_requirements(*ALL_EXTRAS)
    elsewhere = {
        canonicalize_name(requirement.name)
        for requirement in map(Requirement, direct)
        if requirement.marker and not requirement.marker.evaluate()
    }
    assert pinned(direct).keys() - closure(direct) == elsewhere


def test_constraints_are_sorted_by_name() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names = [canonicalize_name(line.partition("==")[0]) for line in lines if line[0] != "#"]
    assert names == sorted(names)


# Modules that need an extra, and are imported only where somebody asks for what they do; which ones
# of the library may need torch, import-linter says.
NEEDS_EXTRA = {
    "app/bulk/parquet.py": "parquet",
    "app/bulk/ray_runner.py": "ray",
    "app/bulk/store.py": "parquet",
}


def test_service_and_library_import_only_runtime_dependencies() -> None:
    providers = importlib.metadata.packages_distributions()
    runtime = closure(direct_requirements())
    for name, tree in python_modules("app", "models"):
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        imported |= {
            node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
        }
        roots = {module.split(".")[0] for module in imported}
        uses_torch = name.startswith("models/") and not roots.isdisjoint({"torch", "torchvision"})
        extra = "torch" if uses_torch else NEEDS_EXTRA.get(name)
        brought = closure(direct_requirements(extra)) if extra else runtime
        for module in (
            {module.split(".")[0] for module in imported}
            - {"app", "models"}
            - sys.stdlib_module_names
        ):
            needed = {canonicalize_name(provider) for provider in providers.get(module, [])}
            assert needed & brought, f"{name} imports {module}, which the service does not install"


# -- verbs and CI ----


@pytest.mark.docs
@pytest.mark.parametrize("verb", VERBS)
def test_verb_is_in_the_makefile_and_in_the_documentation(verb: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{verb}:.* ## ", makefile, re.MULTILINE)
    pages = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")]
    assert any(f"make {verb}" in page for page in pages)


def test_ci_runs_the_verbs_that_a_person_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    text = script.read_text(encoding="utf-8")
    assert "make test" in text
    assert "make check" in text


@pytest.mark.docs
def test_documentation_links_lead_to_files_that_exist() -> None:
    broken = []
    for path in tracked_files():
        if path.suffix != ".md":
            continue
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if (
                not re.match(r"[a-z]+:|#", target)
                and not (path.parent / target.partition("#")[0]).exists()
            ):
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert not broken


def layout_paths(page: str) -> set[str]:
    """The folders and Python files that the layout of docs/architecture.md names."""
    (block,) = re.findall(r"## 1\. The rooms\n\n```text\n(.*?)```", page, re.DOTALL)
    paths: set[str] = set()
    parents: list[tuple[int, str]] = []  # how deep each open folder is indented, and its path
    for line in block.splitlines():
        depth = len(line) - len(line.lstrip())
        while parents and parents[-1][0] >= depth:
            parents.pop()
        first = line.split()[0]
        if first.endswith("/"):
            parents.append((depth, (parents[-1][1] if parents else "") + first))
        folder = parents[-1][1]
        paths |= {folder, *(folder + name for name in re.findall(r"\w+\.py\b", line))}
    return paths


@pytest.mark.docs
def test_architecture_page_names_the_rooms_as_they_stand() -> None:
    named = layout_paths((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    packages = {
        f"{path.parent.relative_to(ROOT).as_posix()}/"
        for path in tracked_files()
        if path.name == "__init__.py"
    }
    assert {"models/", "models/caption.py", "app/api/routes/"} <= named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    assert packages <= named


@pytest.mark.docs
def test_decision_records_are_numbered_without_gaps_and_of_one_form() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [path.name[:5] for path in records] == [
        f"{number:04d}-" for number in range(len(records))
    ]
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert all(
            f"\n## {heading}\n" in text
            for heading in ("Status", "Context", "Decision", "Consequences")
        ), path
