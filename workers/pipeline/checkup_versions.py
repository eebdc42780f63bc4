"""The part of a checkup that looks at versions: of Python, of what was installed, and of the library under SQLite."""

import platform
import sqlite3
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

from packaging.requirements import Requirement

from config.settings import Settings
from workers.pipeline.finding import Finding, ok, warning, wrong

DISTRIBUTION: Final = "retroscribe"
#: The first that gives back what a statement changed (RETURNING).
OLDEST_SQLITE: Final = (3, 35)


def check_versions(settings: Settings) -> Finding:
    """Whether this is what Retroscribe was tested with, and what else is known to go wrong."""
    found = ", ".join(f"{name} {number}" for name, number in _versions())
    if sqlite3.sqlite_version_info < OLDEST_SQLITE and not settings.shared_ledger:
        return wrong("versions", f"{found}: this SQLite is too old for the ledger", _other_python("3.35 or newer"))
    if settings.search_path is not None and not _has_fts5():
        return wrong("versions", f"{found}: this SQLite has no FTS5, which the search index needs", _other_python())
    if outside := "; ".join(outside_of(requires(DISTRIBUTION) or ())):
        return warning("versions", f"{found}: {outside}", "Install again from requirements.lock.")
    if not _broker_cure_fits():
        fix = "Install kombu 5.7 from requirements.lock, or have the workers restarted whenever they end."
        return warning("versions", f"{found}: with this kombu a worker may end when the broker restarts", fix)
    return ok("versions", found)


def outside_of(requirements: list[str] | tuple[str, ...]) -> Iterator[str]:
    """What is installed in a version that is not asked for, or not at all; extras that are not there don't count."""
    for text in requirements:
        one = Requirement(text)
        optional = one.marker is not None and "extra" in str(one.marker)
        if one.marker is not None and not optional and not one.marker.evaluate():
            continue
        try:
            installed = version(one.name)
        except PackageNotFoundError:
            if not optional:
                yield f"{one.name} is not installed"
            continue
        if not one.specifier.contains(installed, prereleases=True):
            yield f"{one.name} is {installed}, {one.specifier} is asked for"


def _versions() -> Iterator[tuple[str, str]]:
    yield "Retroscribe", version(DISTRIBUTION)
    yield "Python", platform.python_version()
    for name, distribution in (("Celery", "celery"), ("kombu", "kombu")):
        yield name, version(distribution)
    yield "SQLite", sqlite3.sqlite_version


def _broker_cure_fits() -> bool:
    from workers.kombu_fix import AFFECTED  # noqa: PLC0415 it loads kombu

    return version("kombu").startswith(AFFECTED)


def _has_fts5() -> bool:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text)")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def _other_python(what: str = "FTS5") -> str:
    return f"Use a Python whose sqlite3 module has SQLite {what}, such as the one of the image."
