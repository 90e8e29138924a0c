"""What a folder holds that is not read: pictures in other formats, folders without an image, splits.

Nothing that looks like a part of the data set is left out without a word.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from labelaudit.files import suffix_of
from labelaudit.sources.file_tree import IMAGE_SUFFIXES, FileTree
from labelaudit.sources.wording import count, kind_of_name, some

# Pictures in formats that are not read, by suffix.
PICTURE_SUFFIXES = frozenset({
    "ai", "arw", "bpg", "cr2", "cr3", "crw", "cur", "dcm", "dcr", "dds", "djvu", "dng", "emf", "eps",
    "exr", "fit", "fits", "flif", "gpr", "hdr", "heics", "heifs", "icns", "iiq", "jps", "jxl", "jxr",
    "kdc", "mrw", "nef", "nii", "nrw", "orf", "pdf", "pef", "ps", "psb", "psd", "qoi", "raf", "raw",
    "rw2", "rwl", "sr2", "srw", "svg", "svgz", "wdp", "wmf", "x3f", "xbm", "xcf", "xpm",
})  # fmt: skip
# Files of the operating system.
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
_ADVICE = "convert them to PNG or JPEG"

Rows = list[tuple[str, str, str]]


@dataclass
class PassedOver:
    """Warnings about what is not read, one line each, and rows (sample_id, path, reason)."""

    warnings: list[str] = field(default_factory=list)
    rows: Rows = field(default_factory=list)


def find_passed_over(folder: FileTree, files: Sequence[str], base: str) -> PassedOver:
    """Find the pictures and class folders of one subfolder per class that are not read.

    Parameters
    ----------
    folder : FileTree
        The folder, after `walk`.
    files : sequence of str
        Its visible files.
    base : str
        The folder of the classes: "", or that of a split with its slash.
    """
    below: dict[str, list[str]] = {name: [] for name in folder.folders(base)}
    pictured: set[str] = set()
    other: list[str] = []
    for file in files:
        if not file.startswith(base):
            continue
        name, nested, _ = file[len(base) :].partition("/")
        suffix = suffix_of(file)
        if suffix in IMAGE_SUFFIXES:
            pictured.add(name)
        elif nested and file.rpartition("/")[2].lower() not in _SYSTEM_FILES:
            below.setdefault(name, []).append(file)
        elif suffix in PICTURE_SUFFIXES:
            other.append(file)
    found = PassedOver()
    bare = [name for name in below if name not in pictured]
    if bare:
        inside = [f'"{name}" ({_by_suffix(below[name])})' for name in bare]
        found.warnings.append(
            f"{count(bare, 'folder has', 'folders have')} no image that can be read, and"
            f" {'is' if len(bare) == 1 else 'are'} no class: {some(inside, quote=False)}"
        )
    for name in bare:
        if not below[name]:
            path = base + name
            found.rows.append((path, folder.open_paths([path])[0], "the folder is empty"))
    other += [
        file
        for name, others in below.items()
        for file in others
        if name not in bare and suffix_of(file) in PICTURE_SUFFIXES
    ]
    if other:
        found.warnings.append(
            f"{count(other, 'picture', 'pictures')} left out, the format is not read"
            f" ({_by_suffix(other)}): {some(other)}; {_ADVICE}"
        )
    left = sorted([*other, *(file for name in bare for file in below[name])])
    reasons = [f"files of this kind are not read: {kind_of_name(file)}" for file in left]
    found.rows += list(zip(left, folder.open_paths(left), reasons, strict=True))
    return found


def find_other_folders(
    folder: FileTree, files: Sequence[str], splits: Sequence[str], chosen: str
) -> list[str]:
    """Return a warning about what lies beside the splits of a folder, or an empty list.

    `splits` are those that have images, and `chosen` is the one that is read.
    """
    names = [name for name in folder.folders() if name not in splits]
    beside = [file for file in files if "/" not in file and suffix_of(file) in IMAGE_SUFFIXES]
    inside = []
    for name in names:
        within = [file for file in files if file.startswith(f"{name}/")]
        inside.append(f'"{name}" ({_by_suffix(within)})')
    if beside:
        inside.append(count(beside, "image outside of folders", "images outside of folders"))
    if not inside:
        return []
    return [f'only the split "{chosen}" was read; not read: {some(inside, quote=False)}']


def kinds_of(files: Iterable[str]) -> str:
    """Return the numbers of files by suffix: "20 .heic, 1 .txt"."""
    return _by_suffix(files)


def _by_suffix(files: Iterable[str]) -> str:
    numbers = Counter(map(kind_of_name, files))
    if not numbers:
        return "empty"
    shown = [f"{number:,} {kind}" for kind, number in numbers.most_common(3)]
    left = len(numbers) - len(shown)
    return ", ".join(shown) + (f" and {left} other kinds" if left else "")
