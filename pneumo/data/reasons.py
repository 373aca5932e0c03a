"""What is wrong with the rows of a table, said once for each reason."""

import re
from collections import Counter
from collections.abc import Iterable

FEW = 5  # texts of one kind that are all shown, and values of a row's that are
VALUE = re.compile(  # the first part of a problem that differs between rows of the same reason
    r'"[^"]*"|^.+?(?= (?:is not there|is not a file|leads out of|is a link that|is in a folder|'
    r"is not a readable))"
)
CELL = ", must be "  # of a problem with a cell, whose values are read best side by side


def by_reason(problems: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of a row's place and its problem -> the same, but rows of one reason have one pair: the first
    place, and how many rows they are with which values. Problems with at most FEW values, other than those of
    cells, have a pair for each value. Pairs are in the order of their places."""
    problems = list(problems)
    order = {place: number for number, (place, _) in reversed([*enumerate(problems)])}
    kinds: dict[str, list[tuple[str, str]]] = {}
    for place, text in problems:
        kinds.setdefault(VALUE.sub('""', text, count=1), []).append((place, text))
    found = []
    for kind, rows in kinds.items():
        texts = Counter(text for _, text in rows)
        first = {text: place for place, text in reversed(rows)}
        if len(texts) <= FEW and (CELL not in kind or len(texts) == 1):
            found += [(first[text], f"{text} ({n:,} rows)" if n > 1 else text) for text, n in texts.items()]
        else:
            place, text = rows[0]
            found.append((place, f"{text} ({len(rows):,} rows: {values(texts)})"))
    return sorted(found, key=lambda pair: order[pair[0]])


def values(texts: Counter[str]) -> str:
    """E.g. `"maybe" 30, "?" 7`: the values of these problems, the most frequent first."""
    counts = Counter[str]()
    for text, n in texts.items():
        match = VALUE.search(text)
        counts[match.group() if match else text] += n
    shown = [f"{value} {n:,}" if n > 1 else value for value, n in counts.most_common(FEW)]
    return ", ".join([*shown, *(["..."] if len(counts) > FEW else [])])
