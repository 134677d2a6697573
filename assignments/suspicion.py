"""What in a notebook's code a person should read before believing its marks.

No marks depend on it. As a rule an honest notebook has no use for any of this; to pass the tests without
doing the work, one needs some of it.
"""

import ast
import builtins
import re
from collections.abc import Iterator

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbgrader.utils import is_grade, is_locked

PACKAGES = {
    *("abc", "collections", "contextlib", "copy", "dataclasses", "enum", "functools", "itertools", "logging"),
    *("math", "pprint", "random", "statistics", "textwrap", "time", "typing", "warnings"),
    *("matplotlib", "nonlinearity", "numpy", "pandas", "torch"),
}
# Functions that reach what is written nowhere.
REFLECTION = {
    *("breakpoint", "compile", "delattr", "eval", "exec", "exit", "getattr", "globals", "input", "locals"),
    *("open", "quit", "setattr", "vars"),
}
# Parts of modules, under whatever name the module goes, that run code elsewhere or lead out of it.
PARTS = {
    *("compile", "compiler", "export", "fx", "hub", "jit", "library", "load", "multiprocessing"),
    *("onnx", "ops", "overrides", "package"),
    *("builtins", "ctypes", "gc", "importlib", "inspect", "os", "subprocess", "sys"),
    *("threading",),
    *("ag_frame", "cr_frame", "f_back", "f_globals", "gi_frame", "tb_frame"),
}
OWN = {"cls", "ctx", "self"}
ORDINARY = {
    "__call__",
    "__class__",
    "__doc__",
    "__enter__",
    "__exit__",
    "__init__",
    "__len__",
    "__name__",
    "__post_init__",
    "__repr__",
}
HARMLESS_MAGIC = re.compile(r"^(%matplotlib \w+|[%!]pip install [\w .,:;@+=\"'/\[\]<>~-]*)$", re.MULTILINE)


def suspicious(cells: list[NotebookNode]) -> list[str]:
    """Reasons to read a notebook, in words, each once.

    Args:
        cells: a submission, put back on its release, so that the cells marked as locked are the course's own.
    """
    setup = [cell for cell in cells if is_locked(cell) and not is_grade(cell) and cell.cell_type == "code"]
    given = {name: statement for cell in setup for name, statement in _bound(_parsed(cell.source))}
    own = [cell for cell in cells if cell.cell_type == "code" and not is_locked(cell)]
    return [*dict.fromkeys(reason for cell in own for reason in _in_cell(cell.source, given))]


def _parsed(source: str) -> ast.Module:
    """A cell as the kernel will read it: magics have become calls, ``await`` may stand anywhere."""
    python = TransformerManager().transform_cell(HARMLESS_MAGIC.sub("", source))
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        return compile(python, "cell", "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError):  # then it cannot run either
        return ast.Module([], [])


def _in_cell(source: str, given: dict[str, str]) -> Iterator[str]:
    tree = _parsed(source)
    for name, statement in _bound(tree):
        if given.get(name, statement) != statement:
            yield f"it gives {name}, with which the notebook begins, another meaning"
        elif hasattr(builtins, name):
            yield f"it gives Python's own {name} another meaning"
    for node in ast.walk(tree):
        yield from (f"it uses {name}" for name in _unusual(node))
        yield from _changes(node, given)


def _bound(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The names that a cell gives a meaning to everywhere, each with what gives it, to compare."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            source = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                # `import torch.nn as nn` is `from torch import nn`; `import torch.nn` binds torch.
                name = alias.asname or (alias.name if source else alias.name.split(".")[0])
                yield name, source + (alias.name if alias.asname else name)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, ast.dump(node)
        else:
            names = (part for part in ast.walk(node) if isinstance(part, ast.Name))
            yield from ((name.id, ast.dump(node)) for name in names if not isinstance(name.ctx, ast.Load))


def _unusual(node: ast.AST) -> Iterator[str]:
    """The names in one node of a program that few honest programs hold."""
    if isinstance(node, ast.Name) and node.id == "get_ipython":
        yield "a magic or a shell command"
    elif isinstance(node, ast.Name) and (node.id in REFLECTION or _is_special(node.id)):
        yield node.id
    elif isinstance(node, ast.FunctionDef) and _is_special(node.name):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        source = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        for package, *parts in ((source + alias.name).split(".") for alias in node.names):
            if package not in PACKAGES or any(part in PARTS or part.startswith("_") for part in parts):
                yield ".".join([package, *parts])
    elif isinstance(node, ast.MatchClass):
        yield from (name for name in node.kwd_attrs if name in PARTS or name.startswith("_"))
    elif isinstance(node, ast.Attribute):
        private = node.attr.startswith("_") and node.attr not in ORDINARY and _root(node) not in OWN
        if private or node.attr in PARTS:
            yield node.attr


def _changes(node: ast.AST, given: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Global):
        yield "it changes global names from inside a function"
    set_or_deleted = isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load)
    if set_or_deleted and _root(node) in {"torch", *given}:
        yield f"it changes a part of {_root(node)}"


def _is_special(name: str) -> bool:
    return name.startswith("__") and name not in ORDINARY


def _root(node: ast.expr) -> str:
    """The name at which ``a.b[c].d`` begins; none where it begins with something else."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
