"""Which fields of specs the package reads, by the types that mypy finds: `model.scale` is not `scaler.scale`.

Reading inside the spec room counts only within a property, method or function that is used outside of it. This file is
also the plugin that mypy calls at every attribute that it resolves.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

from mypy import build
from mypy.modulefinder import BuildSource
from mypy.options import Options
from mypy.plugin import AttributeContext, FunctionContext, MethodContext, Plugin
from mypy.types import Type

ROOM = "sedd.spec."
READS: list[tuple[str, str, int]] = []
"""Full name of what is read (`sedd.spec.model.ModelSpec.hidden`), the file and the line that reads it."""


def fields_read(package: Path) -> set[str]:
    """Full names of what is read outside the spec room, or by what the room defines and others use."""
    _check(package)
    reads = READS
    definers = {path: dict(_definers(package, path)) for path in {Path(file) for _, file, _ in reads}}
    seen = [
        (name, definers[Path(file)].get(line, _module(package, Path(file)))) for name, file, line in reads
    ]
    found = {name for name, definer in seen if not definer.startswith(ROOM)}
    while more := {name for name, definer in seen if definer in found} - found:
        found |= more
    return found


def _check(package: Path) -> None:
    options = Options()
    options.python_version = (3, 11)
    options.follow_imports = "skip"  # the libraries' own types do not matter here, and would take a minute
    options.incremental = False
    options.plugins = [__name__]
    options.config_file = __file__  # without one it loads no plugin
    sources = [BuildSource(str(path), _module(package, path)) for path in package.rglob("*.py")]
    build.build(sources, options)


def _module(package: Path, path: Path) -> str:
    return ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


def _definers(package: Path, path: Path) -> Iterator[tuple[int, str]]:
    """Line → full name of the function or method, not within another, in which it stands."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[int, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                yield from (
                    (line, f"{prefix}.{child.name}") for line in range(child.lineno, child.end_lineno + 1)
                )
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}.{child.name}")

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), _module(package, path))


class _Notes(Plugin):
    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        return _noting(fullname, lambda seen: seen.default_attr_type)

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        return _noting(fullname, lambda seen: seen.default_return_type)

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        return _noting(fullname, lambda seen: seen.default_return_type)


def _noting(fullname: str, answer: Callable[..., Type]) -> Callable[..., Type] | None:
    def note(seen: AttributeContext | MethodContext | FunctionContext) -> Type:
        READS.append((fullname, str(Path(seen.api.path).resolve()), seen.context.line))  # type: ignore[attr-defined] # the checker has it
        return answer(seen)

    return note if fullname.startswith(ROOM) else None


def plugin(version: str) -> type[Plugin]:
    return _Notes
