"""The numbers of the evidence page against hand-computed ones; errors for invalid placeholders."""

import itertools
import shutil
from pathlib import Path

import pytest

from studies.claims import agreement, verdict
from studies.costs import MEASURED
from studies.evidence import MORE, PAGES, ROOT, STUDIES, copy_results, write_pages
from studies.page import StudyResults, fill_template
from studies.results import EvidenceError

HEADER = (
    'target,backbone,tuning,learning_rate,seed,chosen,split,set,metric,value,trained_parameters,share,'
    'peak_memory_mib,step_seconds,seconds'
)
# accuracy by seed at the chosen learning rate
SCORES = {'pro': (80, 82, 84), 'full': (85, 88, 91), 'linear': (60, 61, 62), 'lora': (81, 82, 83)}
LOSS = {'pro': 2, 'full': 1, 'linear': 5, 'lora': 5}


@pytest.fixture
def kept(tmp_path: Path) -> StudyResults:
    lines = [HEADER]
    for tuning, scores in SCORES.items():
        for seed, score in enumerate(scores):
            end = f'{1000 * (1 + seed)},0.25,5.0,0.1,60'
            lines.append(f'digits,vit,{tuning},0.01,{seed},True,val,,accuracy/top1,{score - 1},{end}')
            lines.append(f'digits,vit,{tuning},0.01,{seed},True,test,test,accuracy/top1,{score},{end}')
            lines.append(f'digits,vit,{tuning},0.01,{seed},True,test,test,loss,{LOSS[tuning] + seed},{end}')
        lines.append(f'digits,vit,{tuning},0.1,0,False,val,,accuracy/top1,10,1000,0.25,5.0,0.1,60')
    # a smaller rate was tried for lora too, so only its chosen rate is not at an edge
    lines.append('digits,vit,lora,0.001,0,False,val,,accuracy/top1,10,1000,0.25,5.0,0.1,60')
    (tmp_path / 'headline.csv').write_text('\n'.join(lines) + '\n')
    (tmp_path / 'headline.md').write_text(
        '# Title\n\n## accuracy/top1\n\n| a |\n|---|\n| 1 |\n\n## Learning rates and costs\n\n'
        '| b |\n|---|\n| 2 |\n\n- † edge\n- ± spread\n'
    )
    (tmp_path / 'headline_costs.csv').write_text(
        'target,backbone,tuning,setting,peak_memory_mib,step_seconds\n'
        'digits,vit,pro,ratio1.0,10.4,0.2\ndigits,vit,full,,99.6,0.3456\n'
    )
    return StudyResults(tmp_path, {'headline': 'tuning', 'other': 'tuning'}, {'headline': 'accuracy/top1', 'other': ''})


@pytest.mark.parametrize(
    ('placeholder', 'expected'),
    [
        ('mean headline target=digits backbone=vit tuning=pro', '82.0 ± 2.0'),
        # -5, -6, -7
        ('diff headline target=digits backbone=vit tuning=pro/full', '-6.0 ± 1.0'),
        # -1, 0, 1: no difference beyond the noise
        ('diff headline target=digits backbone=vit tuning=pro/lora', '+0.0 ± 1.0 ≈'),
        ('mean headline target=digits backbone=vit tuning=pro split=val', '81.0 ± 2.0'),
        # 2, 3, 4 against 1, 2, 3
        ('diff headline target=digits backbone=vit tuning=pro/full metric=loss', '+1.0 ± 0.0'),
        ('order headline target=digits backbone=vit', 'full 88.0, pro 82.0, lora 82.0, linear 61.0'),
        ('best headline target=digits backbone=vit', 'full'),
        ('rank headline target=digits backbone=vit tuning=linear', '4 of 4'),
        ('trained headline target=digits backbone=vit tuning=pro', '2,000'),
        ('share headline target=digits backbone=vit tuning=pro', '25.0 %'),
        (
            'overview headline',
            '| tuning | digits, vit | trained | peak MiB | step ms |\n|---|---:|---:|---:|---:|\n'
            '| full | 88.0 ± 3.0 | 2,000 | 100 | 346 |\n| pro ratio1.0 | 82.0 ± 2.0 | 2,000 | 10 | 200 |',
        ),
        ('rate headline target=digits backbone=vit tuning=lora', '0.01'),
        ('runs headline', '17'),
        ('minutes headline', '17'),
        ('tables headline', '**accuracy/top1**\n\n| a |\n|---|\n| 1 |'),
        (
            'validation headline',  # one point below test, only at the chosen rate
            '| tuning | digits, vit | mean |\n|---|---:|---:|\n| pro | 81.0 ± 2.0 † | 81.0 |\n'
            '| full | 87.0 ± 3.0 † | 87.0 |\n| linear | 60.0 ± 1.0 † | 60.0 |\n| lora | 81.0 ± 1.0 | 81.0 |',
        ),
        ('costs headline', '**Learning rates and costs**\n\n| b |\n|---|\n| 2 |\n\n- † edge\n- ± spread'),
    ],
)
def test_placeholder(kept: StudyResults, placeholder: str, expected: str) -> None:
    assert fill_template(f'x {{{{{placeholder}}}}} y', kept) == f'x {expected} y'


def test_metric_with_scale(kept: StudyResults) -> None:
    """The metric is multiplied by the scale of the study's tables."""
    (kept.folder / 'detection.csv').write_text((kept.folder / 'headline.csv').read_text())
    scaled = StudyResults(kept.folder, {'detection': 'tuning'}, {'detection': 'accuracy/top1'}, {'detection': 0.5})
    assert fill_template('{{mean detection target=digits backbone=vit tuning=pro}}', scaled) == '41.0 ± 1.0'
    assert fill_template('{{diff detection target=digits backbone=vit tuning=pro/full}}', scaled) == '-3.0 ± 0.5'


@pytest.mark.parametrize(
    ('placeholder', 'why'),
    [
        ('men headline', 'the first word must be one of mean, '),
        ('mean elsewhere', "there is no study 'elsewhere'; the studies are headline, other"),
        ('mean other target=digits', 'run the study first'),
        ('mean headline tuning=pro', 'must name a value of each of target, backbone, tuning'),
        (
            'mean headline target=digits backbone=vit tuning=ssf',
            'no test run of target=digits, backbone=vit, tuning=ssf',
        ),
        (
            'rank headline target=digits backbone=vit tuning=ssf',
            'ssf was not run with these values; full, pro, lora, linear were',
        ),
        ('diff headline target=digits backbone=vit tuning=pro', 'one axis must name two values'),
        ('count headline count=agrees against=ful', 'against one of all, full, others'),
        ('count headline count=agree', 'count must be one of agrees, open, contradicts'),
    ],
)
def test_invalid_placeholder_raises(kept: StudyResults, placeholder: str, why: str) -> None:
    with pytest.raises(EvidenceError, match=why) as caught:
        fill_template(f'{{{{{placeholder}}}}}', kept)
    assert placeholder in str(caught.value)


def test_sections_depend_on_finished_studies(kept: StudyResults) -> None:
    text = '<!-- if headline -->\nrun\n<!-- end -->\n<!-- if other -->\nthere\n<!-- else -->\nnot run\n<!-- end -->\n'
    assert fill_template(text, kept) == 'run\nnot run\n'


def test_comparison_with_the_papers_ranking(kept: StudyResults) -> None:
    """Below full: contradicts. Far above linear: agrees. LoRA is not in the paper's comparison."""
    assert agreement(kept.study('headline')) == {'agrees': 1, 'open': 0, 'contradicts': 1}
    agrees = 'count headline count=agrees against'
    assert fill_template(f'{{{{{agrees}=full}}}} {{{{{agrees}=others}}}}', kept) == '0 1'
    table = fill_template('{{claims headline}}', kept)
    assert '| full | ≥ | -6.0 ± 1.0 ✗ |' in table
    assert '| linear | > | +21.0 ± 1.0 ✓ |' in table
    assert '| lora |  | +0.0 ± 1.0 ≈ |' in table


def test_students_t_test() -> None:
    """Three differences with standard error 1/√3; the t table has 4.303 for two degrees of freedom."""
    bound = 4.303 / 3**0.5  # 2.484
    for mean, expected in ((bound - 0.001, 'even'), (bound + 0.001, 'above'), (0.001 - bound, 'even'), (-3, 'below')):
        assert verdict([mean - 1, mean, mean + 1]) == expected
    assert verdict([50.0]) == 'even'  # one difference is not enough


def test_template_text_contains_no_measured_numbers() -> None:
    """A decimal number or a percentage in the prose can only come from a placeholder."""
    import re

    for template in PAGES.values():
        text = re.sub(r'\{\{.*?\}\}', '', template.read_text(), flags=re.DOTALL)
        assert not re.findall(r'\d+\.\d+|\d+ ?%|± ?\d', text)


TEMPLATES = {name: path.read_text() for name, path in PAGES.items()}


def test_templates_accept_complete_studies(tmp_path: Path) -> None:
    """Every placeholder of the templates is valid when all studies were run; the scores are fake."""
    from protuning_lab.study import read_study
    from protuning_lab.study.grid import list_groups

    (folder := tmp_path / 'evidence').mkdir()
    worlds = [f'{backbone},{world},50.0,60.0' for backbone in ('resnet', 'vit') for world in ('digits', 'textures')]
    (folder / 'sources.csv').write_text('\n'.join(['backbone,world,accuracy,seconds', *worlds]) + '\n')
    for name in (*STUDIES, *MORE):
        study = read_study(ROOT / f'studies/grids/{name}.py')
        lines = [','.join((*study.axes, *HEADER.split(',')[3:]))]
        for i, group in enumerate(list_groups(study)):
            labels = ','.join(value for _, value in group.values)
            for seed in study.seeds:
                validated = f'{labels},0.01,{seed},True,val,,{study.table.metric},{i},1000,0.25,5.0,0.1,60'
                lines.append(validated)
                for test, metric in itertools.product(study.test, (study.table.metric, 'aAcc')):
                    end = f'{i + seed},1000,0.25,5.0,0.1,60'
                    lines.append(f'{labels},0.01,{seed},True,test,{test},{metric},{end}')
        (folder / f'{name}.csv').write_text('\n'.join(lines) + '\n')
        (folder / f'{name}.md').write_text('## metric\n\n| a |\n|---|\n| 1 |\n')
        if name in MEASURED:
            lines = [','.join((*study.axes, 'setting,peak_memory_mib,step_seconds'))]
            lines += [','.join([*(value for _, value in group.values), 's,1.0,0.5']) for group in list_groups(study)]
            (folder / f'{name}_costs.csv').write_text('\n'.join(lines) + '\n')
    written = {path.name: path.read_text() for path in write_pages(tmp_path, TEMPLATES)}
    assert list(written) == ['evidence.md', 'evidence_toys.md']
    for text in written.values():
        assert '{{' not in text and '<!--' not in text
    assert 'headline.png' in written['evidence_toys.md'] and '## Detection' in written['evidence.md']
    for name in MORE:
        (folder / f'{name}.csv').unlink()
    write_pages(tmp_path, TEMPLATES)
    assert 'was not run as one' in (tmp_path / 'evidence_toys.md').read_text()


def test_committed_pages_equal_filled_templates(tmp_path: Path) -> None:
    shutil.copytree(ROOT / 'docs/evidence', tmp_path / 'evidence')
    for page in write_pages(tmp_path, TEMPLATES):
        assert page.read_bytes() == (ROOT / 'docs' / page.name).read_bytes()


def test_of_an_incomplete_study_only_the_archive_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (run := tmp_path / 'work_dirs/studies/lite').mkdir(parents=True)
    for file in ('results.csv', 'results.jsonl', 'tables.md', 'parameters.png', 'parameters.svg'):
        (run / file).write_text('from 52 runs; 146 are still missing.')
    copy_results('lite', tmp_path / 'evidence', '{{figure lite}}')
    assert [path.name for path in (tmp_path / 'evidence').iterdir()] == ['lite.jsonl']


def test_study_output_is_copied_next_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are always copied, plots only if the page shows them; files of studies that were not run are kept."""
    monkeypatch.chdir(tmp_path)
    for name in ('shown', 'told'):
        (run := tmp_path / 'work_dirs/studies' / name).mkdir(parents=True)
        for file in ('results.csv', 'tables.md', 'parameters.png', 'parameters.svg', 'study.html'):
            (run / file).write_text(f'{name} {file}')
    (folder := tmp_path / 'evidence').mkdir()
    (folder / 'elsewhere.csv').write_text('of another day')
    for name in ('shown', 'told', 'elsewhere'):
        copy_results(name, folder, '{{figure shown}}, {{tables told}}')
    files = {path.name: path.read_text() for path in folder.iterdir()}
    assert files == {
        'elsewhere.csv': 'of another day',
        'shown.csv': 'shown results.csv',
        'shown.md': 'shown tables.md',
        'shown.png': 'shown parameters.png',
        'shown.svg': 'shown parameters.svg',
        'told.csv': 'told results.csv',
        'told.md': 'told tables.md',
    }
