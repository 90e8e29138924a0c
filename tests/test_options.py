"""One source for options: the dataclasses, the type checker's keywords, Python and the command line."""

import ast
import inspect
import re
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin, get_type_hints

import pytest
from rich.console import Console
from typer.main import get_command

import labelaudit
from labelaudit import OptionError, progress
from labelaudit.cli import app
from labelaudit.options import SCORE_NAMES, ScanKeywords, ScanOptions, check_scan_options
from labelaudit.progress import ConsoleReporter, Reporter, choose_reporter
from labelaudit.suspects import scores
from labelaudit.terminal import OPTION, as_typed

PACKAGE = Path(labelaudit.__file__).parent
OPTIONS = {one.name: one for one in fields(ScanOptions)}


def test_keywords_for_the_type_checker_are_the_options():
    declared = {name: hint.__forward_arg__ for name, hint in ScanKeywords.__annotations__.items()}
    assert declared == {name: one.type for name, one in OPTIONS.items()}


def test_scan_shows_all_options_with_their_defaults_and_help():
    parameters = inspect.signature(labelaudit.scan).parameters
    shown = list(parameters.values())
    assert [p.name for p in shown] == ["source", "labels", *OPTIONS, "reporter", "verbose"]
    for name, one in OPTIONS.items():
        assert parameters[name].default == one.default
        assert f"\n    {name} : {one.type}, default {one.default!r}\n" in labelaudit.scan.__doc__
        assert one.metadata["help"].endswith(".")
    assert "{options}" not in labelaudit.scan.__doc__


def test_the_command_line_has_the_same_options_and_defaults():
    params = {p.name: p for p in get_command(app).commands["scan"].params}
    assert set(params) - {"help"} == {"source", "labels", *OPTIONS}
    for name, one in OPTIONS.items():
        assert params[name].opts == [f"--{name.replace('_', '-')}"]
        assert params[name].default == one.default
        assert params[name].help == as_typed(one.metadata["help"])


def test_an_unknown_option_is_a_type_error_that_names_the_nearest():
    with pytest.raises(TypeError, match="'epoch'; did you mean 'epochs'"):
        labelaudit.scan("images", epoch=3)
    with pytest.raises(TypeError, match=r"argument 'qqq'$"):
        labelaudit.scan("images", qqq=3)


def test_scores_that_options_name_are_those_of_the_package():
    assert scores.SCORE_NAMES == SCORE_NAMES


def test_progress_shows_where_somebody_watches(monkeypatch):
    assert type(choose_reporter(None, verbose=True)) is Reporter  # standard error is no terminal
    for watched in ({"force_terminal": True}, {"force_jupyter": True}):
        monkeypatch.setattr(progress, "Console", lambda watched=watched, **_: Console(**watched))
        assert isinstance(choose_reporter(None, verbose=True), ConsoleReporter)
        assert type(choose_reporter(None, verbose=False)) is Reporter
        own = Reporter()
        assert choose_reporter(own, verbose=False) is own


def test_options_are_spelled_as_they_are_typed():
    message = '`id_column` and `fine_tune`; use `force=True` or `device="cpu"`, `weights=DEFAULT`'
    assert as_typed(message) == (
        "--id-column and --fine-tune; use --force or --device cpu, --weights DEFAULT"
    )
    assert as_typed("`methods` of `labelaudit eval`") == "--method of `labelaudit eval`"


def test_the_words_of_the_command_line_stay_in_it():
    # Texts below the command line name options as Python does, in backticks; as_typed translates.
    typed = set()
    for command in get_command(app).commands.values():
        for param in command.params:
            typed |= {*param.opts, param.metavar}
    for path in PACKAGE.rglob("*.py"):
        if path.name in ("cli.py", "cli_review.py", "scan_summary.py", "terminal.py"):
            continue
        for line, text in _texts(path):
            place = f"{path.relative_to(PACKAGE)}:{line}: {text}"
            shown = re.sub("`labelaudit [^`]*`", "", text)
            assert not re.search(r"(?<![\w-])--[a-z]", shown), place
            for found in OPTION.finditer(text):
                assert as_typed(found[0]).split()[0] in typed, place


def _texts(path):
    """Give the lines and strings of a file that are not docstrings; values in braces are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    passed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(node.value)
        if isinstance(node, ast.JoinedStr):
            passed.update(node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in passed:
            yield node.lineno, node.value


def test_classes_that_public_functions_take_or_give_are_public():
    public = {name: getattr(labelaudit, name) for name in labelaudit.__all__}
    for name, function in public.items():
        if not inspect.isfunction(function):
            continue
        hints = get_type_hints(function)
        for annotation in hints.values():
            for one in _classes(annotation):
                if one.__module__.startswith("labelaudit"):
                    assert one in public.values(), f"{name} names {one.__qualname__}"


def _classes(annotation):
    if get_origin(annotation) is not None or isinstance(annotation, UnionType):
        return {one for part in get_args(annotation) for one in _classes(part)}
    return {annotation} if isinstance(annotation, type) else set()


def test_type_checkers_and_python_find_the_public_names_in_the_same_modules():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    checked = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("labelaudit.")
        for alias in node.names
    }
    assert checked == labelaudit._HOMES


def test_a_text_where_a_number_belongs_is_refused_in_one_line():
    with pytest.raises(labelaudit.OptionError, match=r"^`epochs` is '3'; give a number$"):
        labelaudit.LabelAuditor(epochs="3").fit([[0.0], [1.0]], [0, 1])


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in ("epochs", "batch_size", "image_size", "max_suspects", "seed")
          for value in (-1, 2.5, NAN, INF, -INF, "7", True, [3], 2 + 0j)],
        *[("time_budget", value) for value in (0, -1, NAN, INF, "7", True, [3])],
        ("seed", None), pytest.param("seed", 10**5000, id="seed-10^5000"),
        ("epochs", 0), ("batch_size", 1), ("image_size", 0),
        ("device", None), ("device", ""), ("score", None), ("score", 5), ("score", "AUTO"),
        *[("threshold", value) for value in (
            None, "", 5, True, "nan", "inf", "-0.1", "1.1", "top:", "top:-1", "top:1e3", "top:2.5",
            "rate:2", "rate:nan", "rate:-0.1", "rate:x")],
    ],
)  # fmt: skip
def test_odd_values_are_refused_in_one_line(name, value):
    with pytest.raises(OptionError, match=name) as raised:
        check_scan_options(ScanOptions(**{name: value}))
    assert "\n" not in str(raised.value)


def test_whole_numbers_may_be_written_as_floats():
    options = ScanOptions(epochs=5.0, seed=10**400)
    check_scan_options(options)
    assert (options.epochs, options.seed) == (5, 10**400)
    assert isinstance(options.epochs, int)
