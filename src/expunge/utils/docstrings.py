"""Docstrings as text for a reader."""

import re


def flowing(text: str) -> str:
    """Join the lines of each paragraph; formulas and lists, which are marked, keep theirs."""
    paragraphs = [
        part if part.startswith("    ") else re.sub(r"\n(?! {2,}|- )", " ", part)
        for part in text.split("\n\n")
    ]
    return "\n\n".join(paragraphs)
