"""How many small changes of a module its tests notice: ``python -m tests.mutants MODULE TEST...``.

Every comparison, number, sign, flag, text and statement of the module is changed once, one at a
time, in a copy of the package; a change is noticed when the tests fail or pass the time limit.
Prints those that are not, and the share that is. Messages to people are left alone unless --texts.
"""

from __future__ import annotations

import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

_SOURCE = Path("src")
_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_DELETED = (ast.Expr, ast.Assign, ast.AugAssign, ast.Raise, ast.Return, ast.Continue, ast.Break)


def mutants(tree: ast.Module, *, texts: bool) -> Iterator[tuple[int, str, ast.Module]]:
    """Yield (line, what was changed, changed module)."""
    for number, node in enumerate(ast.walk(tree)):
        for what, change in _changes(node, texts):
            other = copy.deepcopy(tree)
            change(list(ast.walk(other))[number])
            yield getattr(node, "lineno", 0), what, ast.fix_missing_locations(other)


def _changes(node: ast.AST, texts: bool):  # type: ignore[no-untyped-def]
    if isinstance(node, ast.Compare):
        yield from (_operator(node.ops, i) for i in range(len(node.ops)))
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in _OPERATORS:
        new = _OPERATORS[type(node.op)]
        yield f"{type(node.op).__name__} to {new.__name__}", lambda n: setattr(n, "op", new())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not dropped", lambda n: setattr(n, "op", ast.UAdd()) or _bool(n)
    if isinstance(node, ast.Constant):
        yield from _constant(node, texts)
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "condition negated", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if isinstance(block, list) and not isinstance(node, ast.Module | ast.ClassDef):
            for i, statement in enumerate(block):
                if isinstance(statement, _DELETED) and not _is_doc(statement):
                    yield f"dropped: {ast.unparse(statement)[:60]}", _drop(field, i)


def _operator(ops: list[ast.cmpop], i: int):  # type: ignore[no-untyped-def]
    new = _OPERATORS[type(ops[i])]
    return f"{type(ops[i]).__name__} to {new.__name__}", lambda n: n.ops.__setitem__(i, new())


def _bool(node: ast.UnaryOp) -> None:
    node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), node.operand)


def _constant(node: ast.Constant, texts: bool):  # type: ignore[no-untyped-def]
    value = node.value
    if isinstance(value, bool):
        yield f"{value} to {not value}", lambda n: setattr(n, "value", not value)
    elif isinstance(value, int | float):
        yield f"{value} to {value + 1}", lambda n: setattr(n, "value", value + 1)
    elif isinstance(value, str | bytes) and value and (texts or b" " not in _bytes(value)):
        other = value[:-1] + ("~" if isinstance(value, str) else b"~")
        yield f"{value!r} to {other!r}", lambda n: setattr(n, "value", other)


def _bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _is_doc(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _drop(field: str, i: int):  # type: ignore[no-untyped-def]
    def change(node: ast.AST) -> None:
        getattr(node, field)[i] = ast.Pass()

    return change


@click.command()
@click.argument("module", type=click.Path(exists=True, path_type=Path))
@click.argument("tests", nargs=-1, required=True)
@click.option("--texts", is_flag=True, help="Change messages with blanks too.")
@click.option("--limit-s", type=float, default=120.0, show_default=True, help="Of one run.")
@click.option("--part", default="1/1", show_default=True, help="Only every Nth change: K/N.")
def main(module: Path, tests: tuple[str, ...], texts: bool, limit_s: float, part: str) -> None:
    """Change MODULE in every way and run TEST... on each."""
    first, every = map(int, part.split("/"))
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        copied = Path(scratch) / "src"
        shutil.copytree(_SOURCE, copied)
        target = copied / module.relative_to(_SOURCE)
        found = list(mutants(ast.parse(module.read_text(encoding="utf-8")), texts=texts))
        target.write_text(ast.unparse(ast.parse(module.read_text(encoding="utf-8"))), "utf-8")
        if not _noticed_nothing(copied, tests, limit_s):
            raise click.ClickException("the tests fail on the unchanged module")
        chosen = found[first - 1 :: every]
        alive = 0
        for line, what, tree in chosen:
            target.write_text(ast.unparse(tree), encoding="utf-8")
            if _noticed_nothing(copied, tests, limit_s):
                alive += 1
                click.echo(f"{module}:{line}: {what}")
    click.echo(f"{len(chosen) - alive} of {len(chosen)} noticed")


def _noticed_nothing(source: Path, tests: tuple[str, ...], limit_s: float) -> bool:
    # pytest keeps the temporary folders of its last three sessions alone: hundreds of sessions would
    # take those of any other that runs beside them.
    own = ["--basetemp", str(source.parent / "tmp")]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *own, *tests]
    path = os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, env=env, capture_output=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    main()
