#!/usr/bin/env python
"""Make docs/evidence.md and docs/evidence_toys.md.

studies/evidence.py [--studies NAME … --jobs N --data-root DIR --from-results]

Makes the data, the source networks, the studies and the pages. Existing results are kept. A study whose published data
set is not in the data root is skipped, with the address of its publisher. Every number on the pages is looked up in the
studies' results.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from protuning_lab.study import main as run_study
from protuning_lab.study import read_study
from protuning_lab.study.markdown import STILL_MISSING
from protuning_mm.weights.atomic import write_atomically
from studies.costs import MEASURED, write_costs
from studies.data import make_data
from studies.page import StudyResults, fill_template
from studies.published import NEEDED, prepare
from studies.results import EvidenceError

ROOT = Path(__file__).resolve().parents[1]
# in the order of running
STUDIES = (
    *NEEDED, 'headline', 'long_tail', 'steps', 'ablations', 'spatial', 'defaults', 'corruptions', 'little_data',
    'detection', 'segmentation',
)  # fmt: skip
MORE = ('full',)  # takes days; run only with --studies
RUN = 'work_dirs/studies'
# page -> its template
PAGES = {name: ROOT / f'studies/{name}.in' for name in ('evidence.md', 'evidence_toys.md')}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Run the studies and write docs/evidence.md and docs/evidence_toys.md')
    parser.add_argument(
        '--studies',
        nargs='+',
        choices=(*STUDIES, *MORE),
        default=list(STUDIES),
        help='studies to run (default: all but full)',
    )
    parser.add_argument('--jobs', type=int, default=2, metavar='N', help='number of worker processes (default: 2)')
    parser.add_argument(
        '--data-root',
        type=Path,
        default=Path('data'),
        metavar='DIR',
        help='folder of the published data sets (default: data)',
    )
    parser.add_argument(
        '--continue-committed',
        action='store_true',
        help='take over the committed results (docs/evidence/*.jsonl) instead of computing them again',
    )
    parser.add_argument('--from-results', action='store_true', help='only write the pages again')
    parser.add_argument('--docs', default=str(ROOT / 'docs'), help='folder for the pages')
    return parser.parse_args(argv)


def run(names: Sequence[str], jobs: int, docs: Path, data_root: Path, committed: bool = False) -> list[str]:
    """Make missing data and source networks, and run studies. Existing results are kept.

    Args:
        names (Sequence[str]): The studies.
        jobs (int): Number of worker processes.
        docs (Path): The page's folder.
        data_root (Path): Folder of the published data sets.
        committed (bool): Whether to take over the results in ``docs/evidence``. Defaults to False.

    Returns:
        list[str]: The studies with failed runs or without data. They do not stop the others.
    """
    lacking = prepare(names, data_root)
    for name, sources in lacking.items():
        print(f'{name} is skipped, because data are missing: {sources}', flush=True)
    if set(names) - set(NEEDED):
        from studies.sources import train_sources  # imports mmpretrain, which the page does not need

        make_data('data/studies')
        write_source_accuracies(train_sources(), docs / 'evidence')
    if {'detection', 'segmentation'} & set(names) and not Path('data/demo/meta.json').is_file():
        from demo.data import make_data as make_demo_data

        make_demo_data('data/demo')
    incomplete = list(lacking)
    for name in names:
        if name in lacking:
            continue
        print(f'==> {name}', flush=True)
        study, archive = str(ROOT / f'studies/grids/{name}.py'), docs / f'evidence/{name}.jsonl'
        try:
            if committed and archive.is_file():
                with suppress(SystemExit):  # it has not all results of the study, or some of an earlier config
                    run_study([study, '--merge', str(archive)])
            run_study([study, '--resume', '--jobs', str(jobs)])
        except SystemExit as ended:
            if ended.code == 130:
                raise
            print(f'{name} is incomplete: exit code {ended.code}', flush=True)
            incomplete.append(name)
    return incomplete


def write_source_accuracies(trained: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Write the accuracies of the source networks to ``sources.csv``."""
    lines = ['backbone,world,accuracy,seconds']
    for backbone, meta in trained.items():
        worlds = {world: found for world, found in meta.items() if isinstance(found, dict)}
        lines += [f'{backbone},{world},{found["accuracy"]},{found["seconds"]}' for world, found in worlds.items()]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(('\n'.join(lines) + '\n').encode(), folder / 'sources.csv')


def copy_results(name: str, folder: Path, template: str) -> None:
    """Copy the results of a study to the pages' folder, if it was run here; plots only if a page shows them.

    A study on published data is archived with all its results. While it is incomplete, only the archive is copied, so
    that a page shows the whole study.
    """
    tables = Path(RUN) / name / 'tables.md'
    archived = name in NEEDED
    written = {'results.jsonl': f'{name}.jsonl'} if archived else {}
    if not (archived and tables.is_file() and STILL_MISSING in tables.read_text()):
        written |= {'results.csv': f'{name}.csv', 'tables.md': f'{name}.md'}
    if written.get('tables.md') and f'{{{{figure {name}}}}}' in template:
        written |= {f'parameters.{kind}': f'{name}.{kind}' for kind in ('png', 'svg')}
    for file, kept in written.items():
        if (source := Path(RUN) / name / file).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / kept)


def write_pages(docs: Path, templates: Mapping[str, str]) -> list[Path]:
    """Fill the templates and write the pages; none is written if one cannot be filled.

    Raises:
        EvidenceError: a placeholder is invalid, or its value was not measured.
    """
    layouts = {name: read_study(ROOT / f'studies/grids/{name}.py').table for name in (*STUDIES, *MORE)}
    stored = StudyResults(
        docs / 'evidence',
        {name: layout.rows for name, layout in layouts.items()},
        {name: layout.metric or '' for name, layout in layouts.items()},
        {name: layout.scale for name, layout in layouts.items()},
    )
    pages = {docs / name: fill_template(template, stored) for name, template in templates.items()}
    for page, text in pages.items():
        write_atomically(text.encode(), page)
    return list(pages)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    docs = Path(args.docs)
    incomplete = (
        [] if args.from_results else run(args.studies, args.jobs, docs, args.data_root, args.continue_committed)
    )
    templates = {name: path.read_text() for name, path in PAGES.items()}
    for name in (*STUDIES, *MORE):
        copy_results(name, docs / 'evidence', ''.join(templates.values()))
    try:
        if not args.from_results:
            for name in set(MEASURED) & (set(args.studies) - set(incomplete)):
                write_costs(name, docs)
        for page in write_pages(docs, templates):
            print(page)
    except EvidenceError as error:
        raise SystemExit(f'error: {error}') from None
    if incomplete:
        failed = ', '.join(incomplete)
        raise SystemExit(
            f'error: {failed}: runs failed or data are missing; the pages are written. Run the same command to try '
            'again'
        )


if __name__ == '__main__':
    main()
