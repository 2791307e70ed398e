"""All that is made of a study's results."""

from collections.abc import Sequence
from pathlib import Path

from protuning_lab.study.configs import Configs
from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError
from protuning_lab.study.figure import draw
from protuning_lab.study.grid import Group
from protuning_lab.study.markdown import as_markdown
from protuning_lab.study.page import as_page
from protuning_lab.study.results import find_results
from protuning_lab.study.schedule import Schedule
from protuning_lab.study.summary import Overview, cells_of, shown_metric, summarise
from protuning_lab.study.tidy import tidy_rows, write_tidy
from protuning_mm.weights.atomic import write_atomically


def make_overview(study: Study, groups: Sequence[Group], configs: Configs) -> Overview:
    """Read what a work dir holds."""
    found = find_results(study.work_dir, [cell for group in groups for cell in cells_of(study, group)], configs)
    schedule = Schedule(study, groups, found.results)
    for cell, error in found.failed.items():
        schedule.failed_at(cell, error)
    return Overview(
        study=study,
        metric=shown_metric(study, found.results),
        summaries=summarise(schedule),
        failed=found.failed,
        stale=found.stale,
        missing=schedule.left,
        results=found.results,
    )


def write_report(overview: Overview) -> list[Path]:
    """Write the tidy table, the tables, the plots and the page to the study's work dir.

    Raises:
        StudyError: there is no result at all.
    """
    study, folder = overview.study, overview.study.work_dir
    if not overview.results:
        raise StudyError(f'work dir {str(folder)!r} holds no result of this study')
    choices = {each.group: each.choice for each in overview.summaries if each.choice is not None}
    written = write_tidy(folder, list(tidy_rows(study, overview.results, choices)))
    plots = draw(overview)
    for name, plot in plots.items():
        for form, content in (('png', plot.png), ('svg', plot.svg)):
            written.append(folder / f'{name}.{form}')
            write_atomically(content, written[-1])
    for name, text in (('tables.md', as_markdown(overview)), ('index.html', as_page(overview, plots))):
        written.append(folder / name)
        write_atomically(text.encode(), written[-1])
    return written
