"""The version of labelaudit that is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Return the version of labelaudit, or "unknown" where it is not installed."""
    try:
        return version("labelaudit")
    except PackageNotFoundError:
        return "unknown"
