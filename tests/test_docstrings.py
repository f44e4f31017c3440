"""Docstrings are complete: what is public says what it is, what shape its images have, and what it refuses."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sr_models", "objectives", "eval", "cluster", "orchestrator")
OF_IMAGES = ("sr_models", "objectives", "eval")
REFUSALS = {"InputError", "LostError", "DiskFullError"}

ARRAY = re.compile(r"\b(Tensor|ndarray)\b")
STATE_DICT = re.compile(r"\[str, (Tensor|torch\.Tensor)\]")
SUFFIX = re.compile(r"_[A-Za-z0-9]*[BCDHNW][A-Za-z0-9]*$")
SIDE = r"[\w'…`.*/×+ -]{1,14}"
SHAPE = re.compile(rf"\({SIDE}(?:,|(?:, {SIDE})+)\)|BCHW|HWC|1-D|shape")
"""`(B, C, H, W)`, `(N,)`, "of any shape"."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def functions(package: str) -> list[tuple[Path, ast.Module, ast.ClassDef | None, Function]]:
    """Public functions of modules and public methods of public classes."""
    return [found for path in sorted((ROOT / package).rglob("*.py")) for found in of_module(path)]


def of_module(path: Path) -> Iterator[tuple[Path, ast.Module, ast.ClassDef | None, Function]]:
    module = ast.parse(path.read_text("utf-8"))
    for node in module.body:
        inner = node.body if isinstance(node, ast.ClassDef) and public(node) else []
        for owner, found in [(None, node), *((node, member) for member in inner)]:
            if isinstance(found, Function) and public(found):
                yield path, module, owner if isinstance(owner, ast.ClassDef) else None, found


def public(node: ast.ClassDef | Function) -> bool:
    return not node.name.startswith("_")


def where(path: Path, owner: ast.ClassDef | None, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}: {owner.name + '.' if owner else ''}{getattr(node, 'name', '')}"


def says(node: ast.Module | ast.ClassDef | Function | None) -> str:
    return (ast.get_docstring(node) if node else None) or ""


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_public_has_a_docstring(package):
    """Modules, classes, functions, methods; a name alone is enough for a property, and for what a base has said."""
    silent = []
    for path in sorted((ROOT / package).rglob("*.py")):
        module = ast.parse(path.read_text("utf-8"))
        silent += [where(path, None, node) for node in [module, *module.body]
                   if isinstance(node, ast.Module | ast.ClassDef) and (isinstance(node, ast.Module) or public(node))
                   and not says(node)]  # fmt: skip
    for path, _, owner, node in functions(package):
        if owner and (owner.bases or any("property" in ast.unparse(one) for one in node.decorator_list)):
            continue
        if not says(node):
            silent.append(where(path, owner, node))
    assert not silent, silent


@pytest.mark.parametrize("package", OF_IMAGES)
def test_a_function_of_images_says_their_shape(package):
    """By the suffix of an argument's name, in its docstring, or for all of its module in the module's."""
    silent = []
    for path, module, owner, node in functions(package):
        given = [one for one in [*node.args.args, *node.args.kwonlyargs] if one.annotation]
        types = {one.arg: ast.unparse(one.annotation) for one in given} | {
            "": ast.unparse(node.returns) if node.returns else ""
        }
        arrays = [name for name, said in types.items() if ARRAY.search(STATE_DICT.sub("", said))]
        if owner or not arrays or any(SUFFIX.search(name) for name in arrays):
            continue
        if not SHAPE.search(says(module) + says(node)):
            silent.append(where(path, owner, node))
    assert not silent, silent


@pytest.mark.parametrize("package", PACKAGES)
def test_a_function_that_refuses_says_when(package):
    """`Raises:`, or a sentence with the word, where a function of a module raises one of our errors itself."""
    silent = []
    for path, _, owner, node in functions(package):
        raised = {
            ast.unparse(found.exc.func)
            for found in ast.walk(node)
            if isinstance(found, ast.Raise) and isinstance(found.exc, ast.Call)
        }
        if not owner and raised & REFUSALS and not re.search(r"[Rr]aise|[Rr]efuse", says(node)):
            silent.append(where(path, owner, node))
    assert not silent, silent
