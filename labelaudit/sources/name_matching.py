"""Class names that are written in two ways: "1.0" and "1", "Cat " and "cat", names and indices.

Nothing here guesses between two classes. A name that could be either of two is not matched.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal

from labelaudit.errors import SourceError
from labelaudit.sources.wording import count, some

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d{1,2})?", re.ASCII | re.IGNORECASE)
_CODE = re.compile(r"0\d+", re.ASCII)
_TRUTH_VALUES = {"true": "1", "false": "0"}
# Cohen's kappa of given and clean labels under which their names probably do not mean the same. It is
# 0 for labels drawn at random, and 0.1 where 45% of the labels of two equal classes are wrong.
LEAST_AGREEMENT = 0.1
FEWEST_LABELS = 20


def match_names(
    texts: Iterable[str], class_names: Collection[str], declared: Sequence[str] = ()
) -> dict[str, str]:
    """Return which class each text names, of those that are written in another way than the class.

    Equal numbers are the same class ("1.0" and "1"). So are texts that differ only in case, spaces or
    Unicode form, unless the texts themselves distinguish them. If no text is a class at all,
    integers are indices into the declared names, and truth values are 1 and 0.

    Parameters
    ----------
    texts : iterable of str
        Names, "" where there is none.
    class_names : collection of str
        The classes. A text that is one of them is not in the result.
    declared : sequence of str
        The names that a schema declares, in the order of their indices.
    """
    known = set(class_names) - {""}
    there = set(texts) - {""}
    others = there - known
    if not others or not known:
        return {}
    found = match_numbers(others, known, padded=True)
    left = others - found.keys()
    found |= _alike(left, known, there)
    if len(found) == len(others) or there & known:
        return found
    return found or _indices(others, declared) or _truth_values(others, known)


def match_numbers(
    texts: Iterable[str], class_names: Collection[str], *, padded: bool = False
) -> dict[str, str]:
    """Return the class of each text that is not a class itself but an equal number ("1.0" and "1").

    Whole numbers with leading zeros ("01") are codes, which equal no number unless `padded` is true.
    """
    known = set(class_names)
    numbers = _unique((_number(name, padded), name) for name in known)
    found = {text: numbers.get(_number(text, padded), "") for text in set(texts) - known}
    return {text: name for text, name in found.items() if name}


def _alike(
    texts: Collection[str], known: Collection[str], there: Collection[str]
) -> dict[str, str]:
    """Match texts that differ from a class only in case, spaces or Unicode form."""
    names = _unique((folded(name), name) for name in known)
    # If the texts have both "a" and "A", they distinguish them.
    spellings = Counter(folded(text) for text in there)
    found = {text: names.get(folded(text), "") for text in texts if spellings[folded(text)] == 1}
    return {text: name for text, name in found.items() if name}


def _indices(texts: Collection[str], declared: Sequence[str]) -> dict[str, str]:
    numbers = {text: _number(text) for text in texts}
    found = {
        text: declared[int(number)]
        for text, number in numbers.items()
        if number is not None and number == int(number) and 0 <= number < len(declared)
    }
    return found if len(found) == len(texts) else {}


def _truth_values(texts: Collection[str], known: Collection[str]) -> dict[str, str]:
    """Match "True" and "1", either of which may be the class."""
    as_numbers = {text: _TRUTH_VALUES.get(text.lower(), text) for text in texts}
    names = _unique((_number(_TRUTH_VALUES.get(name.lower(), name)), name) for name in known)
    found = {text: names.get(_number(number), "") for text, number in as_numbers.items()}
    return found if all(found.values()) else {}


def folded(text: str) -> str:
    """Return a text without what rarely distinguishes names: case, spaces and Unicode form."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def plain_form(text: str) -> str:
    """Return a form that is equal for names of probably one class: "Cat " and "cat", "1.0" and "1"."""
    number = _number(text, padded=False)
    return folded(text) if number is None else str(number.normalize())


def _number(text: str, padded: bool = True) -> Decimal | None:
    stripped = text.strip()
    if not _NUMBER.fullmatch(stripped) or (not padded and _CODE.fullmatch(stripped)):
        return None
    return Decimal(stripped)


def _unique(pairs: Iterable[tuple[Decimal | str | None, str]]) -> dict[Decimal | str | None, str]:
    """Return a mapping without the keys that are None or belong to two names."""
    names: dict[Decimal | str | None, str] = {}
    for key, name in pairs:
        names[key] = "" if key in names else name
    names.pop(None, None)
    return names


def renamed(texts: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Return texts with other names where `names` has one."""
    return [names.get(text, text) for text in texts] if names else list(texts)


def match_clean_labels(
    clean: Sequence[str], labels: Sequence[str], declared: Sequence[str], where: str
) -> tuple[list[str], list[str]]:
    """Write clean labels as the given labels are written, so that the two can be compared.

    Parameters
    ----------
    clean, labels : sequence of str
        Clean and given labels (N,); "" where there is none.
    declared : sequence of str
        The class names that a schema declares.
    where : str
        What messages call the source.

    Returns
    -------
    clean : list of str
        The same labels (N,) under the names of the classes. A label that names no class stays.
    warnings : list of str
        What a reader of the result must know, one line each.

    Raises
    ------
    SourceError
        No clean label names a class, so that every label would count as wrong.
    """
    classes = {*labels, *declared} - {""}
    names = match_names(clean, classes, declared)
    matched = renamed(clean, names)
    counts = Counter(text for text in matched if text)
    if counts and classes and not counts.keys() & classes:
        raise SourceError(
            f"{where}: no clean label names a class: the clean labels are {some(sorted(counts))}, and"
            f" the given labels {some(sorted(classes))}; write both in the same way, or leave"
            " `clean_label_column` out"
        )
    warnings = []
    if names:
        pairs = [f'"{text}" as "{name}"' for text, name in sorted(names.items())]
        warnings.append(
            f"{where}: clean labels are written another way than the given ones and were matched:"
            f" {some(pairs, quote=False)}"
        )
    strange = sorted(counts.keys() - classes)
    if strange:
        number = sum(counts[text] for text in strange)
        warnings.append(
            f"{where}: {number:,} of {counts.total():,} clean labels name no class that a given label"
            f" has: {some(strange)}; the given labels of these samples count as wrong"
        )
    elsewhere = agreement_warning(matched, labels)
    return matched, [*warnings, *([f"{where}: {elsewhere}"] if elsewhere else [])]


def agreement_warning(clean: Sequence[str], labels: Sequence[str]) -> str:
    """Return a warning if given and clean labels agree hardly more than by chance; "" if they agree."""
    pairs = [(one, other) for one, other in zip(clean, labels, strict=True) if one and other]
    if len(pairs) < FEWEST_LABELS:
        return ""
    total = len(pairs)
    agreement = sum(one == other for one, other in pairs) / total
    ours, theirs = (Counter(column) for column in zip(*pairs, strict=True))
    chance = sum(ours[name] * theirs[name] for name in ours) / total**2
    if math.isclose(chance, 1) or (agreement - chance) / (1 - chance) >= LEAST_AGREEMENT:
        return ""
    wrong = [pair for pair in pairs if pair[0] != pair[1]]
    (one, other), _ = Counter(wrong).most_common(1)[0]
    return (
        f"only {count([None] * round(agreement * total), 'label equals', 'labels equal')} the clean"
        f' label, of {total:,} (often "{other}" is given and "{one}" is clean); this is no more than by'
        " chance, so check that both name the classes in the same way before you trust the measures"
    )
