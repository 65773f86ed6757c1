"""How reports and benchmarks write tables in Markdown, and intervals in them."""

from collections.abc import Iterable, Sequence

from features.pairs import missing


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], spaced: bool = False) -> str:
    r"""Return a Markdown table; `spaced` writes the rule below the head as the other rows are.

    A `|` in a cell, which would end it, is written as `\|`, and a line break as a blank.

    Examples
    --------
    >>> print(markdown_table(["method", "hr_10"], [["segue", "0.3"]]))
    | method | hr_10 |
    |---|---|
    | segue | 0.3 |
    """
    rule = _row(["---"] * len(head)) if spaced else "|---" * len(head) + "|"
    return "\n".join([_row(head), rule, *(_row(cells) for cells in rows)])


def _row(cells: Sequence[str]) -> str:
    whole = (" ".join(cell.splitlines()) for cell in cells)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in whole) + " |"


def cells_of(row: str) -> list[str]:
    r"""Return the cells that a row of a Markdown table was written from.

    Examples
    --------
    >>> cells_of(r"| region: a \| b | 0.3 |")
    ['region: a | b', '0.3']
    """
    return [cell.replace(r"\|", "|") for cell in row[2:-2].split(" | ")]


def bounds(low: float | None, high: float | None, *, form: str = ".4f") -> str:
    """Return an interval to write behind a value, nothing where there is none.

    Examples
    --------
    >>> bounds(-0.01, 0.2, form="+.2f"), bounds(float("nan"), float("nan"))
    (' [-0.01, +0.20]', '')
    """
    return "" if missing(low) or missing(high) else f" [{low:{form}}, {high:{form}}]"
