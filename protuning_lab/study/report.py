"""Writes the report of a study: tables, plots and the HTML page."""

from collections.abc import Sequence
from pathlib import Path

from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError
from protuning_lab.study.grid import Group
from protuning_lab.study.markdown import render_markdown
from protuning_lab.study.page import render_page
from protuning_lab.study.plots import draw_plots
from protuning_lab.study.results import ARCHIVE, find_results, write_archive
from protuning_lab.study.results_table import result_rows, write_results_table
from protuning_lab.study.schedule import Schedule
from protuning_lab.study.summary import Overview, choose_shown_metric, summarize_groups
from protuning_mm.weights.atomic import write_atomically


def make_overview(study: Study, groups: Sequence[Group], configs: ConfigBuilder) -> Overview:
    """Read the results in a study's work dir.

    Raises:
        StudyError: a result file is damaged.
    """
    found = find_results(study, groups, configs)
    schedule = Schedule(study, groups, found.results)
    for cell, error in found.failed.items():
        schedule.mark_failed(cell, error)
    return Overview(
        study=study,
        metric=choose_shown_metric(study, found.results),
        summaries=summarize_groups(schedule),
        failed=found.failed,
        stale=found.stale,
        missing=schedule.left,
        results=found.results,
    )


def write_report(overview: Overview) -> list[Path]:
    """Write the results (table and archive), the Markdown tables, the plots and the HTML page to the study's work dir.

    Returns:
        list[Path]: The written files.

    Raises:
        StudyError: there are no results.
    """
    study, folder = overview.study, overview.study.work_dir
    if not overview.results:
        raise StudyError(f'work dir {str(folder)!r} contains no results of this study')
    choices = {each.group: each.choice for each in overview.summaries if each.choice is not None}
    written = write_results_table(folder, list(result_rows(study, overview.results, choices)))
    written.append(folder / ARCHIVE)
    write_archive(written[-1], overview.results)
    plots = draw_plots(overview)
    for name, plot in plots.items():
        for form, content in (('png', plot.png), ('svg', plot.svg)):
            written.append(folder / f'{name}.{form}')
            write_atomically(content, written[-1])
    for name, text in (('tables.md', render_markdown(overview)), ('index.html', render_page(overview, plots))):
        written.append(folder / name)
        write_atomically(text.encode(), written[-1])
    return written
