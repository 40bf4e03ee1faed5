"""What a result depends on, the files behind a script, as a fingerprint; results kept by it."""

import ast
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["fingerprint", "key", "sources", "stored"]

FOLDER = Path(__file__).resolve().parent
# not imported: everything would be among the sources
PACKAGE = Path(str(importlib.util.find_spec("pytorch_ood_viyog").origin)).resolve().parent

T = TypeVar("T")


@cache
def sources(script: Path) -> tuple[Path, ...]:
    """
    :param script: file of this folder
    :return: it, and the files of this folder and of the package that its names come from; a room
        that only passes a name on does not count, so that a change elsewhere touches nothing
    """
    found: set[Path] = set()
    open_ = [Path(script).resolve()]
    while open_:
        file = open_.pop()
        if file not in found:
            found.add(file)
            open_ += _imported(file)
    return tuple(sorted(found))


def fingerprint(script: str | Path) -> str:
    """
    :param script: file of this folder, such as ``__file__``
    :return: 12 hexadecimal digits that change with the code behind it, not with comments,
        docstrings or layout
    """
    digest = hashlib.sha256()
    for file in sources(Path(script)):
        digest.update(f"{file.name}\n{_code(file)}\n".encode())
    return digest.hexdigest()[:12]


def key(script: str | Path, model: nn.Module, images: Mapping[str, Tensor], *more: object) -> str:
    """
    :param script: file of this folder that computes a result, such as ``__file__``
    :param model: of which the weights count
    :param images: by name
    :param more: further things that the result depends on, by their ``str``
    :return: a hash of all of it
    """
    digest = hashlib.sha256("\n".join(map(str, (fingerprint(script), *more))).encode())
    for values in model.state_dict().values():
        digest.update(values.cpu().contiguous().numpy().tobytes())
    for name, x in images.items():
        digest.update(f"{name} {tuple(x.shape)} {x.double().sum():.6f}".encode())
    return digest.hexdigest()


def stored(path: Path, key: str, fresh: bool, compute: Callable[[], T]) -> T:
    """
    :param path: file that holds a result, or will
    :param key: hash of all that the result depends on
    :param fresh: compute anew in any case
    :param compute: gives the result where the file does not hold it
    :return: the result
    """
    if path.exists() and not fresh:
        content = torch.load(path, weights_only=True)
        if content["key"] == key:
            result: T = content["result"]
            return result
    result = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save({"key": key, "result": result}, partial)
    os.replace(partial, path)
    return result


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def _code(file: Path) -> str:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)


def _imported(file: Path) -> Iterator[Path]:
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _module(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(file, node)
            for alias in node.names:
                yield from _origin(module, alias.name)


def _absolute(file: Path, node: ast.ImportFrom) -> list[str]:
    named = node.module.split(".") if node.module else []
    if not node.level:
        return named
    folder = [PACKAGE.name, *file.relative_to(PACKAGE).parts[:-1]]
    return [*folder[: len(folder) - node.level + 1], *named]


def _origin(module: list[str], name: str) -> Iterator[Path]:
    """The file that defines a name of a module, or that is the module of this name."""
    room = PACKAGE.parent.joinpath(*module, "__init__.py")
    if not module or module[0] != PACKAGE.name or not room.is_file():
        yield from _module(module)
        return
    inner = list(_module([*module, name]))
    passed_on = [
        (_absolute(room, node), alias.name)
        for node in _tree(room).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (alias.asname or alias.name) == name
    ]
    if inner:
        yield from inner
    elif passed_on:
        yield from _origin(*passed_on[0])
    else:
        yield room


def _module(parts: list[str]) -> Iterator[Path]:
    """The file of a module of this folder or of the package, if it is one."""
    base = PACKAGE.parent if parts and parts[0] == PACKAGE.name else FOLDER
    path = base.joinpath(*parts)
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            yield file
            return
