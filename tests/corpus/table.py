"""Writes the table of docs/images.md from the corpus.

python -m tests.corpus.table
"""

from collections.abc import Iterable
from pathlib import Path

from app.api.problem_kinds import PROBLEMS
from tests.corpus.case import Captioned, Case, Group, Refused
from tests.corpus.cases import CASES, GROUPS

__all__ = ["PAGE", "page_with_table", "table"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "images.md"
BEGIN, END = "<!-- corpus: begin -->\n", "<!-- corpus: end -->\n"
STATUSES = {kind.slug: kind.status for kind in PROBLEMS.values()}


def answer(outcome: Captioned | Refused) -> str:
    """How an outcome is answered, as the page tells it."""
    if isinstance(outcome, Refused):
        return f"{STATUSES[outcome.code]} `{outcome.code}`"
    return "200 with `warnings`" if outcome.warns else "200"


def answers(cases: Iterable[Case]) -> str:
    """Every answer that is declared for these cases, in the order in which they come."""
    return "; ".join(dict.fromkeys(answer(case.outcome) for case in cases))


def table(groups: Iterable[Group] = GROUPS) -> str:
    """The table, a line for each group."""
    lines = ["| what you send | what you get | answer | files |", "|---|---|---|---|"]
    lines += [
        f"| {group.sent} | {group.got} | {answers(group.cases)} | {len(group.cases)} |"
        for group in groups
    ]
    return "\n".join(lines) + f"\n\n{len(CASES)} files in {len(GROUPS)} groups.\n"


def page_with_table(page: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    """Write the table into the page."""
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
