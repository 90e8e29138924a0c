"""Plain JSON values as typed dataclasses: what fits, and what is said of what does not."""

from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest

from labelaudit.typed_json import MismatchError, from_plain, to_plain


class Point(TypedDict):
    x: int
    share: float


@dataclass(frozen=True)
class Inner:
    name: str
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner
    points: list[Point]
    counts: dict[str, int]
    reasons: tuple[str, ...]
    anything: Any = None
    listed: list[Inner] = field(default_factory=list)


PLAIN: dict[str, Any] = {
    "inner": {"name": "é", "interval": [0, 1.5]},
    "points": [{"x": 1, "share": 0.5}],
    "counts": {"a": 2},
    "reasons": ["b", "c"],
    "anything": {"free": [None, True]},
    "listed": [{"name": "d", "interval": None}],
}


def test_values_come_back_as_they_were():
    read = from_plain(Outer, PLAIN)
    assert read == Outer(
        Inner("é", (0.0, 1.5)),
        [{"x": 1, "share": 0.5}],
        {"a": 2},
        ("b", "c"),
        {"free": [None, True]},
        [Inner("d")],
    )
    assert to_plain(read) == PLAIN
    assert from_plain(Outer, to_plain(read)) == read


def test_defaults_stand_for_missing_keys_and_later_keys_are_ignored():
    short = {key: PLAIN[key] for key in ("points", "counts", "reasons")}
    read = from_plain(Outer, {**short, "inner": {"name": "x", "later": 1}, "new": 2})
    assert read.inner == Inner("x")
    assert read.listed == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": None}, "inner is not an object"),
        ({"inner": {}}, r"inner\.name is missing"),
        ({"inner": {"name": 3}}, r"inner\.name is not text"),
        ({"inner": {"name": "x", "interval": [1]}}, r"inner\.interval has 1 values, not 2"),
        ({"inner": {"name": "x", "interval": ["1", 2]}}, r"inner\.interval\[0\] is not a number"),
        ({"points": {"x": 1}}, "points is not a list"),
        ({"points": [{"x": 1}]}, r"points\[0\]\.share is missing"),
        ({"points": [{"x": True, "share": 1}]}, r"points\[0\]\.x is not a whole number"),
        ({"counts": {"a": "2"}}, r"counts\.a is not a whole number"),
        ({"reasons": "b"}, "reasons is not a list"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(MismatchError, match=message):
        from_plain(Outer, PLAIN | change)
    with pytest.raises(MismatchError, match="it is not an object"):
        from_plain(Outer, [])
