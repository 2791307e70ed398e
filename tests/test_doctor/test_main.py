"""``tools/doctor.py``: text, JSON, exit codes, and checks that cannot run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from protuning_mm.cli.doctor import main
from protuning_mm.doctor.versions import find_incompatible_versions
from tests.mini import REPO
from tests.test_doctor.doctor_runs import MiniConfigs, finding_at, run_doctor

OURS = sorted(path.relative_to(REPO) for room in ('det', 'seg') for path in (REPO / 'configs' / room).glob('*.py'))
HOSTS = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    'mmdet::detr/detr_r50_8xb2-150e_coco.py',
    'mmseg::deeplabv3/deeplabv3_r50-d8_4xb4-80k_ade20k-512x512.py',
    'mmpretrain::resnet/resnet50_8xb32_in1k.py',
    'mmpretrain::vision_transformer/vit-base-p16_32xb128-mae_in1k.py',
]


def run_main(capsys: pytest.CaptureFixture, *argv: str) -> tuple[object, str]:
    """Return the exit code and the standard output."""
    try:
        main([str(arg) for arg in argv])
        code: object = 0
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr().out


def test_exit_codes_and_text(mini: MiniConfigs, capsys: pytest.CaptureFixture) -> None:
    correct, warned = mini('upernet'), mini('upernet', "train_dataloader['batch_size'] = 1\n")
    wrong = mini('upernet', "model['pretrained'] = 'no/such.pth'\n")
    for config, flags, expected in (
        (correct, [], 0), (correct, ['--strict'], 0), (warned, [], 0), (warned, ['--strict'], 1), (wrong, [], 1),
    ):  # fmt: skip
        code, printed = run_main(capsys, config, '--no-step', *flags)
        assert code == expected, printed
        assert all(len(line) <= 100 for line in printed.splitlines())
    assert "'no/such.pth': there is no such file" in printed
    assert printed.splitlines()[-1].startswith('1 error, 0 warnings, ')


@pytest.mark.parametrize('flags', [[], ['--max-images', '0'], ['--gpus', '0'], ['--launcher', 'magic']])
def test_wrong_flags_exit_with_2(flags: list[str], capsys: pytest.CaptureFixture) -> None:
    assert run_main(capsys, *(['config.py', *flags] if flags else []))[0] == 2


def test_standard_output_is_only_json(mini: MiniConfigs) -> None:
    config = mini('upernet', 'find_unused_parameters = True\n')
    command = [sys.executable, str(REPO / 'tools/doctor.py'), str(config), '--data', '--json']
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=config.parent)
    assert done.stdout, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert done.returncode == report['exit_code'] == report['counts']['error'] == 0
    assert {'level', 'where', 'found', 'advice'} == set(report['findings'][0])
    assert [f['where'] for f in report['findings'] if f['level'] == 'warning'] == ['find_unused_parameters']
    assert report['estimates']['memory'] > report['estimates']['checkpoint_with_optimizer'] > 0
    assert not list(config.parent.glob('work_dirs'))


@pytest.mark.parametrize(
    ('code', 'where', 'text'),
    [
        ('model = dict(', None, 'SyntaxError'),
        ("_base_ = 'no/such.py'", None, 'no/such.py'),
        ('a = 1', 'model', 'has no model'),
        ("default_scope = 'mmdet'\nmodel = dict(type='NoSuchModel')", 'model', 'NoSuchModel'),
        ("model = dict(type='FasterRCNN', backbone=dict(type='ResNet', depth=51))\ndefault_scope='mmdet'", 'model', ''),
    ],
)
def test_config_cannot_be_read_or_built(code: str, where: str | None, text: str, tmp_path: Path) -> None:
    config = tmp_path / 'broken.py'
    config.write_text(code)
    found = finding_at(run_doctor(config), where or str(config))
    assert found.level == 'error' and text in found.found


def test_missing_config(capsys: pytest.CaptureFixture) -> None:
    code, printed = run_main(capsys, 'no/such.py', '--json')
    assert code == 1 and "there is no config 'no/such.py'" in json.loads(printed)['findings'][0]['found']


def test_data_is_checked_if_the_model_cannot_be_built(mini: MiniConfigs) -> None:
    findings = run_doctor(mini('upernet', "model['decode_head']['type'] = 'NoSuchHead'\n"), '--data')
    assert finding_at(findings, 'model').level == 'error'
    assert '4 images' in finding_at(findings, 'train_dataloader.dataset').found


def test_failing_check_is_a_finding(mini: MiniConfigs, monkeypatch: pytest.MonkeyPatch) -> None:
    from protuning_mm.doctor import checks

    def broken(setup: object) -> object:
        raise RuntimeError('no luck')
        yield

    monkeypatch.setattr(checks, 'check_batch_norms', broken)
    findings = run_doctor(mini('upernet'))
    assert finding_at(findings, 'norm_cfg').found == 'this check stopped with an error: RuntimeError: no luck'
    assert 'fills all' in finding_at(findings, 'model.backbone.init_cfg').found


def test_options_and_launcher(mini: MiniConfigs) -> None:
    found = run_doctor(mini('cascade'), '--cfg-options', 'train_dataloader.batch_size=4', '--launcher', 'pytorch',
                     '--gpus', '2')  # fmt: skip
    assert '4 images x 2 GPUs = 8 per step' in finding_at(found, 'optim_wrapper.optimizer.lr').found


NEW = {'torch': '2.13.0', 'onedl-mmcv': '2.3.6', 'onedl-mmengine': '0.10.12', 'numpy': '2.2.6'}


@pytest.mark.parametrize(
    ('installed', 'expected'),
    [
        (NEW, []),
        (NEW | {'mmcv': '2.1.0'}, [('error', 'onedl-mmcv and mmcv')]),
        (NEW | {'torch': '2.5.1'}, [('error', '2.5.1 is too old')]),
        (NEW | {'torch': '2.14.0'}, [('warning', 'do not build')]),
        (NEW | {'torch': '2.13.0+cu130'}, []),
        ({'torch': '2.6.0', 'mmcv': '2.1.0', 'numpy': '1.26.4'}, [('warning', 'classic mmcv')]),
        ({'mmcv': '2.2.0', 'mmdet': '3.3.0'}, [('warning', 'classic'), ('error', 'mmdet 3.3.0 refuses mmcv 2.2.0')]),
        ({'mmengine': '0.10.5', 'numpy': '2.0.0'}, [('warning', 'classic'), ('error', 'numpy 2.0.0 breaks')]),
    ],
)
def test_versions(installed: dict[str, str], expected: list[tuple[str, str]]) -> None:
    found = list(find_incompatible_versions(installed))
    assert [f.level for f in found] == [level for level, _ in expected]
    assert all(said in f.found for f, (_, said) in zip(found, expected))


def test_our_config_has_no_error() -> None:
    assert not [f for f in run_doctor(REPO / 'configs/seg/fcn_r50_protune.py') if f.level == 'error']


# the demo's configs start from a file that `make demo` trains
LACKING = {'model.backbone.init_cfg'}


@pytest.mark.slow
@pytest.mark.parametrize('config', OURS, ids=str)
def test_our_configs_have_no_errors(config: Path) -> None:
    demo = config.stem.endswith('_demo')
    # a detector's step takes a minute with COCO's samplers: one of them stands for all
    step = config.parts[1] == 'seg' or config.stem == 'htc_r50_protune'
    findings = run_doctor(REPO / config, step=step)
    errors = [f for f in findings if f.level == 'error']
    assert not errors or (demo and {f.where for f in errors} == LACKING), errors
    assert not [f for f in findings if 'could not run' in f.found or 'not determined' in f.found]


@pytest.mark.slow
@pytest.mark.parametrize('base', HOSTS)
def test_host_configs_have_no_errors(base: str, tmp_path: Path) -> None:
    """The doctor only warns that their backbones are not frozen."""
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{base}'\n")
    findings = run_doctor(config, step=True)
    assert not [f for f in findings if f.level == 'error' or 'could not run' in f.found], findings
    assert finding_at(findings, 'model.backbone').level == 'warning'
