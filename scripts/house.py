"""Print how large and how regular the code base is: files, lines, names, documents.

    python scripts/house.py            # seconds
    python scripts/house.py --run      # also runs one tiny `forget` and counts the files it uses

A report, not a gate. The rules that must hold are in tests/test_architecture.py.
"""

import argparse
import ast
import inspect
import io
import re
import sys
import tempfile
import tokenize
from collections import Counter
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "expunge"
VERBS = ("forget", "plan", "audit", "attack", "bench", "tune", "merge", "verify", "report")


def sources() -> list[Path]:
    """Return every Python file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def loose_modules() -> list[str]:
    """Return the modules that lie in no room."""
    return sorted(path.stem for path in PACKAGE.glob("*.py"))


def repeated_class_names() -> list[str]:
    """Return the public class names that two files define."""
    found = Counter(
        node.name
        for path in sources()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    return sorted(name for name, count in found.items() if count > 1)


def comments() -> tuple[int, int]:
    """Return the number of comment lines and of all lines."""
    count = lines = 0
    for path in sources():
        text = path.read_text(encoding="utf-8")
        lines += text.count("\n")
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        count += sum(token.type == tokenize.COMMENT for token in tokens)
    return count, lines


def prose(path: Path) -> tuple[int, int, float]:
    """Return lines, words and mean words a sentence of a Markdown file, code left out."""
    whole = path.read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", whole, flags=re.DOTALL)
    text = re.sub(r"^\s*[|#].*$", "", text, flags=re.MULTILINE)
    sentences = [part for part in re.split(r"[.!?:]\s", text) if len(part.split()) > 2]
    words = sum(len(part.split()) for part in sentences) / max(1, len(sentences))
    return whole.count("\n"), len(whole.split()), words


def files_of_a_run() -> int:
    """Return the number of files of which a function runs in one default `forget`, tiny model."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    import tiny_world
    from expunge.pipeline.forget import forget

    seen: set[str] = set()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        # Bodies of modules and classes are not functions: they run where a file is imported.
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED:
            seen.add(code.co_filename)

    with tempfile.TemporaryDirectory() as folder:
        world = tiny_world.make(Path(folder))
        settings = world.settings(out=str(Path(folder) / "run"))
        sys.setprofile(profile)
        try:
            forget(settings)
        finally:
            sys.setprofile(None)
    return sum(str(path) in seen for path in sources())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="run a tiny `forget` and count files")
    arguments = parser.parse_args()
    import expunge

    lines, words, length = prose(ROOT / "README.md")
    noted, total = comments()
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").count("\n")
    repeated, loose = repeated_class_names(), loose_modules()
    offered = sum(verb in expunge.__all__ for verb in VERBS)
    rows = {
        "Python files in src": f"{len(sources())}",
        "modules in no room": f"{len(loose)}  ({', '.join(loose)})",
        "public class names with two meanings": f"{len(repeated)}  {', '.join(repeated)}",
        "README": f"{lines} lines, {words} words, {length:.1f} words a sentence",
        "CHANGELOG": f"{changes} lines",
        "comment lines": f"{noted} of {total}",
        "verbs that `import expunge` offers": f"{offered} of {len(VERBS)}",
        "pages of the documentation": f"{len(list((ROOT / 'docs').rglob('*.md')))}",
    }
    for name, value in rows.items():
        print(f"{name:38}{value}")
    if arguments.run:
        print(f"{'files that one default forget uses':38}{files_of_a_run()}")


if __name__ == "__main__":
    main()
