"""Write every generated page and table, or name those that are stale.

    python scripts/make_docs.py            # write
    python scripts/make_docs.py --check    # exit with 1 when a page is not what the code says

Catalogue, command line, settings, Python API, measured tables and the README's counts come from the
package and from `benchmarks/results`. Nothing else in the documentation is generated. The catalogue
in the package is, for the commands that answer without loading torch, and so is the help of each
command, for the list of them.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))

from docs_pages import (  # noqa: E402 - found beside this file
    attacks,
    auditor,
    catalogue,
    cli,
    families,
    leaderboards,
    methods,
    metrics,
    notebooks,
    python_api,
    readme,
    scale,
    schemas,
    settings,
    suites,
    wrappers,
)
from docs_pages.markdown import marked  # noqa: E402


def pages() -> dict[str, str]:
    """Return the text of every generated file by its path below the repository."""
    found = {
        "README.md": marked(_read("README.md"), readme.features()),
        "docs/reference/cli.md": cli.page(),
        "docs/reference/settings.md": settings.page(),
        "docs/reference/python.md": python_api.page(),
        "src/expunge/cli/help.json": cli.text(),
        "src/expunge/config/catalogue.json": catalogue.text(),
        **{f"docs/reference/schemas/{name}.json": schemas.text(name) for name in schemas.NAMES},
        "docs/catalogue/wrappers.md": wrappers.page(),
        "docs/catalogue/attacks.md": attacks.page(),
        "docs/catalogue/metrics.md": metrics.page(),
        "docs/catalogue/suites.md": suites.page(),
        "docs/results/leaderboards.md": leaderboards.page(ROOT),
        "docs/results/methods.md": methods.measured(ROOT),
        "docs/results/auditor.md": auditor.page(ROOT),
        "docs/results/attacks.md": marked(
            _read("docs/results/attacks.md"), auditor.false_alarms(ROOT)
        ),
        "docs/results/scale.md": scale.page(),
        "docs/reference/families.md": families.page(),
        **notebooks.pages(ROOT),
        "docs/images/growth.svg": _read("benchmarks/results/growth.svg"),
    }
    folder = "docs/catalogue/methods"
    return found | {f"{folder}/{name}": text for name, text in methods.pages(ROOT).items()}


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def stale(root: Path, wanted: Mapping[str, str]) -> list[str]:
    """Return the paths of files that are missing, or not what is wanted.

    Args:
        root: The repository.
        wanted: Text by path, as `pages` returns it.
    """
    return [
        path
        for path, text in wanted.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Write the pages, or check them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when one is stale")
    if parser.parse_args().check:
        old = stale(ROOT, pages())
        for path in old:
            print(f"stale: {path}")
        if old:
            print("run: python scripts/make_docs.py")
        return bool(old)
    for path, text in pages().items():
        file = ROOT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    print(f"{len(pages())} files written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
