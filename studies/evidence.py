#!/usr/bin/env python
"""Make docs/evidence.md: studies/evidence.py [--studies NAME … --jobs N --from-results].

Data, source networks, the studies (what is there is kept), and the page, every number of which is looked up in what
the studies wrote.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from protuning_lab.study import main as run_study
from protuning_lab.study import read_study
from protuning_mm.weights.atomic import write_atomically
from studies.data import make_data
from studies.page import Kept, fill
from studies.results import EvidenceError

ROOT = Path(__file__).resolve().parents[1]
# in the order in which they are run
STUDIES = (
    'headline', 'long_tail', 'steps', 'ablations', 'spatial', 'defaults', 'corruptions', 'little_data', 'detection',
    'segmentation',
)  # fmt: skip
MORE = ('full',)  # takes days and is run by name
RUN = 'work_dirs/studies'
TEMPLATE = ROOT / 'studies/evidence.md.in'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Run the studies and write docs/evidence.md')
    parser.add_argument('--studies', nargs='+', choices=(*STUDIES, *MORE), default=list(STUDIES), help='which to run')
    parser.add_argument('--jobs', type=int, default=2, metavar='N', help='runs at once')
    parser.add_argument('--from-results', action='store_true', help='run nothing; make the page again')
    parser.add_argument('--docs', default=str(ROOT / 'docs'), help='folder of the page')
    return parser.parse_args(argv)


def run(names: Sequence[str], jobs: int, docs: Path) -> list[str]:
    """Make data and source networks where they are missing, and run studies; what is done is kept.

    Returns:
        list: The studies that are not whole. A run that fails does not stop the others; the study's tables tell it.
    """
    from studies.sources import train_sources  # imports mmpretrain, which the page does without

    make_data('data/studies')
    keep_sources(train_sources(), docs / 'evidence')
    if {'detection', 'segmentation'} & set(names) and not Path('data/demo/meta.json').is_file():
        from demo.data import make_data as make_demo_data

        make_demo_data('data/demo')
    not_whole = []
    for name in names:
        print(f'==> {name}', flush=True)
        try:
            run_study([str(ROOT / f'studies/grids/{name}.py'), '--resume', '--jobs', str(jobs)])
        except SystemExit as ended:
            if ended.code == 130:
                raise
            print(f'{name} is not whole: {ended.code}', flush=True)
            not_whole.append(name)
    return not_whole


def keep_sources(trained: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Write how good the source networks are beside the page."""
    lines = ['backbone,world,accuracy,seconds']
    for backbone, meta in trained.items():
        worlds = {world: told for world, told in meta.items() if isinstance(told, dict)}
        lines += [f'{backbone},{world},{told["accuracy"]},{told["seconds"]}' for world, told in worlds.items()]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(('\n'.join(lines) + '\n').encode(), folder / 'sources.csv')


def keep(name: str, folder: Path, template: str) -> None:
    """Copy what a study wrote beside the page, if it was run here; its plots if the page shows them."""
    written = {'results.csv': f'{name}.csv', 'tables.md': f'{name}.md'}
    if f'{{{{figure {name}}}}}' in template:
        written |= {f'parameters.{kind}': f'{name}.{kind}' for kind in ('png', 'svg')}
    for file, kept in written.items():
        if (source := Path(RUN) / name / file).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / kept)


def write_page(docs: Path, template: str) -> Path:
    """Fill the template.

    Raises:
        EvidenceError: it asks for what was not measured.
    """
    layouts = {name: read_study(ROOT / f'studies/grids/{name}.py').table for name in (*STUDIES, *MORE)}
    kept = Kept(
        docs / 'evidence',
        {name: layout.rows for name, layout in layouts.items()},
        {name: layout.metric or '' for name, layout in layouts.items()},
        {name: layout.scale for name, layout in layouts.items()},
    )
    page = docs / 'evidence.md'
    write_atomically(fill(template, kept).encode(), page)
    return page


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    docs = Path(args.docs)
    not_whole = [] if args.from_results else run(args.studies, args.jobs, docs)
    template = TEMPLATE.read_text()
    for name in (*STUDIES, *MORE):
        keep(name, docs / 'evidence', template)
    try:
        print(write_page(docs, template))
    except EvidenceError as error:
        raise SystemExit(f'error: {error}') from None
    if not_whole:
        failed = ', '.join(not_whole)
        raise SystemExit(f'error: runs failed in {failed}; the page is made, and the same command tries them again')


if __name__ == '__main__':
    main()
