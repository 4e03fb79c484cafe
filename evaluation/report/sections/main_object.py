"""What the main object of an image is, and how people score by it. Measures nothing."""

from evaluation.metrics.main_object import MAIN_OBJECT
from evaluation.report.markdown import markdown_table, percent
from evaluation.results import Results

__all__ = ["section"]

_TEXT = (
    "A photo's main object is the category of COCO, in people's words "
    "(`evaluation/metrics/coco_categories.py`), that most of its references name, if at least four "
    "fifths of them do; where several are named equally often, each is. A caption names it if it "
    "names one of those. Photos without one do not count. People by the same measure: each caption "
    "against the others of its photo; of four others, four fifths are all four."
)


def section(results: Results) -> str:
    """Write the measure, and people's scores on each set; "" where no image has a main object."""
    table = results.table
    if table is None:
        return ""
    scores = next(iter(table.models.values())).scores
    rows = [
        [
            name,
            f"{scores[name][MAIN_OBJECT].images} of {each.images}",
            percent(each.human_main_object_named),
            f"{each.human_main_object_captions:,}",
        ]
        for name, each in table.sets.items()
        if MAIN_OBJECT in scores[name]
    ]
    if not rows:
        return ""
    people = markdown_table(["", "photos that count", "people", "of captions"], rows)
    return f"## Main object named\n\n{_TEXT}\n\n{people}"
