"""Rows that are wrong for one reason are one line."""

import pytest

from pneumo.data.reasons import by_reason


def label(value):
    return f'label is "{value}", must be 0 or 1'


def missing(number):
    return f"films/{number}.png is not there"


@pytest.mark.parametrize(
    ("problems", "said"),
    [
        ([label("maybe")], [("row 2", label("maybe"))]),
        ([label("maybe")] * 3, [("row 2", f"{label('maybe')} (3 rows)")]),
        (
            [label("maybe"), label("?"), label("maybe")],
            [("row 2", f"""{label("maybe")} (3 rows: "maybe" 2, "?")""")],
        ),
        (["label is empty"] * 1200, [("row 2", "label is empty (1,200 rows)")]),
        ([missing(1), missing(2)], [("row 2", missing(1)), ("row 3", missing(2))]),
        (
            [missing(number) for number in range(7)],
            [
                (
                    "row 2",
                    "films/0.png is not there (7 rows: films/0.png, films/1.png, films/2.png, films/3.png, "
                    "films/4.png, ...)",
                )
            ],
        ),
        (
            ["label is empty", missing(1), "label is empty"],
            [("row 2", "label is empty (2 rows)"), ("row 3", missing(1))],
        ),
    ],
)
def test_rows_of_one_reason_are_one_line_with_their_number_and_values(problems, said):
    assert by_reason((f"row {row}", text) for row, text in enumerate(problems, start=2)) == said
