"""Write the list of common English words from text files, most frequent first.

    python scripts/make_common_words.py TEXT... > src/expunge/data/corpora/common_words.txt

A word counts when it stands in lower case at least as often as capitalised, so names are left
out. The shipped list comes from permissively licensed text: TOFU's answers (MIT), HellaSwag's
validation set (MIT), MMLU and GSM8K (MIT) and four public-domain books.
"""

import bz2
import re
import sys
from collections import Counter
from pathlib import Path

WORDS = 12000
"""Length of the list."""

FEWEST = 4
"""Occurrences below which a word is not common."""


def common_words(texts: list[str]) -> list[str]:
    """Return the most frequent words of `texts` that are no names, most frequent first."""
    lower: Counter[str] = Counter()
    capital: Counter[str] = Counter()
    for text in texts:
        for word in re.findall(r"[A-Za-z]+", text):
            (lower if word.islower() else capital)[word.lower()] += 1
    kept = {w: n + capital[w] for w, n in lower.items() if n >= max(FEWEST, capital[w])}
    ranked = sorted(kept, key=lambda word: (-kept[word], word))
    return [word for word in ranked if len(word) > 1 or word in "ai"][:WORDS]


def main() -> None:
    """Print the list for the files on the command line."""
    texts: list[str] = []
    for name in sys.argv[1:]:
        data = Path(name).read_bytes()
        texts.append((bz2.decompress(data) if name.endswith(".bz2") else data).decode("utf-8"))
    print(*common_words(texts), sep="\n")


if __name__ == "__main__":
    main()
