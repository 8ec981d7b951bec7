"""How far two spellings are apart."""

from functools import lru_cache


@lru_cache(maxsize=65536)
def edit_distance(first: str, second: str) -> int:
    """Return the least number of inserted, deleted, changed or swapped neighbouring marks.

    Optimal string alignment: no mark is edited twice.

    Example:
        >>> edit_distance("kotor", "ktoor")
        1
    """
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, mark in enumerate(first, start=1):
        older, before, row = before, row, [i]
        for j, other in enumerate(second, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (mark != other))
            if i > 1 and j > 1 and mark == second[j - 2] and first[i - 2] == other:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "document"), counted(2000, "document")
        ('1 document', '2,000 documents')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"
