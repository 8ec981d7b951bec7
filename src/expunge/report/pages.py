"""The reports of a run folder by name: the run's own, and those written aside later."""

from pathlib import Path

from expunge.config_file import parsed

OWN = "report.html"
"""Shows what the run was to show; the manifest vouches for it."""

IN_FULL, MASKED = "report-in-full.html", "report-masked.html"
"""Show more, or less, than that."""


def page_for(run: Path, *, redact: bool) -> Path:
    """Return where a report is written that masks the texts of records, or shows them."""
    if own_redaction(run) == redact:
        return run / OWN
    return run / (MASKED if redact else IN_FULL)


def own_redaction(run: Path) -> bool:
    """Return whether the run was to mask texts, as it does by default."""
    path = run / "config.toml"
    tables = parsed(path) if path.is_file() else {}
    return bool(tables.get("report", {}).get("redact", True))
