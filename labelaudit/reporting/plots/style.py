"""Parts that all plots of a run share: colors, fonts, titles, and writing of files.

Figures are built with Matplotlib's object-oriented API and never with pyplot. pyplot keeps global
state, which threads would share and which would disturb the backend of a user's notebook. For the
same reason rcParams are not changed; all styles are set on the artists.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from labelaudit.files import atomic_write

# Nearly everyone can distinguish blue and vermilion (Okabe and Ito), even when printed in gray.
CALM = "#0072B2"  # labels that are right or look right
ALARM = "#D55E00"  # labels that are wrong or look wrong
INK = "#1F2933"
MUTED = "#5B6672"
FAINT = "#DDE2E8"

DPI = 130

# Fonts for characters that DejaVu Sans does not have, by the names under which systems install them.
FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Sans JP",
    "Noto Sans KR",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "WenQuanYi Zen Hei",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)


def style_axes(axes: Axes, grid: bool = True) -> None:
    """Set every color, so that a user's dark style sheet cannot make the plot unreadable."""
    figure = axes.get_figure()
    if figure is not None:
        figure.set_facecolor("white")
    axes.set_facecolor("white")
    for side, spine in axes.spines.items():
        spine.set_color(MUTED)
        spine.set_visible(side in ("left", "bottom"))
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.set_axisbelow(True)
    axes.grid(False)
    if grid:
        axes.grid(True, color=FAINT, linewidth=0.8)


def write_title(axes: Axes, title: str, hint: str) -> None:
    """Write the question that the plot answers, and below it a hint on how to read it."""
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=24)
    axes.annotate(
        hint,
        (0, 1),
        xytext=(0, 8),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color=MUTED,
    )


def write_notice(axes: Axes, message: str) -> None:
    """Write into the middle of an empty plot why it is empty."""
    axes.text(
        0.5,
        0.5,
        message,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=11,
        color=MUTED,
        bbox={"facecolor": "white", "edgecolor": FAINT, "boxstyle": "round,pad=0.6"},
    )


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically; `OutputError` if that fails."""
    # The axes fill the figure, and "tight" adds room for the text around them. Names of any length fit,
    # without a layout engine, which would draw everything several times.
    with atomic_write(path) as temporary:
        figure.savefig(
            temporary,
            format="png",
            dpi=DPI,
            facecolor="white",
            bbox_inches="tight",
            pad_inches=0.15,
        )


@functools.cache
def _name_fonts() -> tuple[tuple[str, ...], frozenset[int]]:
    """Return the installed font families for class names, and the characters that they have."""
    installed = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    families = tuple(name for name in ("DejaVu Sans", *FALLBACK_FONTS) if name in installed)
    characters: set[int] = set()
    for name in families:
        characters.update(ft2font.FT2Font(installed[name]).get_charmap())
    return families, frozenset(characters)


def use_name_fonts(texts: Iterable[Text]) -> None:
    """Draw class names literally, in any script, with "$" as a character and not as mathematics."""
    families, _ = _name_fonts()
    for text in texts:
        text.set_fontfamily(list(families))
        text.set_parse_math(False)


def drawable(name: str, most: int = 20) -> str:
    """Shorten a class name to one line. Characters that no font has become escape codes."""
    _, characters = _name_fonts()
    name = "".join(
        letter if ord(letter) in characters else letter.encode("unicode-escape").decode()
        for letter in " ".join(name.split())
    )
    name = name or "(empty name)"
    return name if len(name) <= most else name[: most - 1] + "…"
