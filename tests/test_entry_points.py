"""Entry points of the hosts, each in a fresh interpreter without this package imported; see docs/entry_points.md."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from protuning_mm.cli.convert_delta import extract_delta
from protuning_mm.engine.build_model import build_model
from tests.mini import CLASSES, REPO, write_ade, write_backbone, write_classifier, write_config
from tests.plain import disturb

PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
SCRIPTS = {
    'det': """
import sys
import numpy as np
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
assert 'protuning_mm' not in sys.modules
*configs, checkpoint, whole, image = sys.argv[1:]
for config in configs:
    model = init_detector(config, checkpoint, device='cpu')
    assert type(model.backbone).__name__ == 'ProTunedResNet'
    saved = torch.load(whole, weights_only=False)['state_dict']
    assert all(torch.equal(t, saved[k]) for k, t in model.state_dict().items())
    one = inference_detector(model, image).pred_instances
    inferencer = DetInferencer(config, checkpoint, device='cpu', show_progress=False)
    other = inferencer(image)['predictions'][0]
    assert len(one.scores) == len(other['scores']) > 0
    assert np.allclose(one.scores.numpy(), other['scores'], atol=1e-5)
    assert np.allclose(one.bboxes.numpy(), other['bboxes'], atol=1e-2)
print('predicted', len(configs))
""",
    'seg': """
import sys
import numpy as np
import torch
from mmseg.apis import MMSegInferencer, inference_model, init_model
assert 'protuning_mm' not in sys.modules
IMPORT
*configs, checkpoint, whole, image = sys.argv[1:]
for config in configs:
    model = init_model(config, checkpoint, device='cpu')
    assert type(model.backbone).__name__ == 'ProTunedResNet'
    assert type(model.backbone.plain).__module__.startswith('mmseg.')
    saved = torch.load(whole, weights_only=False)['state_dict']
    assert all(torch.equal(t, saved[k]) for k, t in model.state_dict().items())
    one = inference_model(model, image).pred_sem_seg.data[0].numpy()
    inferencer = MMSegInferencer(config, checkpoint, device='cpu', show_progress=False)
    other = inferencer(image)['predictions']
    assert one.shape == other.shape == (96, 128) and (one == other).all()
print('predicted', len(configs))
""",
}


def save_checkpoint(config: Path) -> Path:
    """Save a checkpoint as a run does, with prompts that are not the identity."""
    model = build_model(Config.fromfile(config))
    model.init_weights()
    disturb(model.backbone.prompts)
    meta = dict(dataset_meta=dict(classes=CLASSES, palette=PALETTE))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), config.parent / 'model.pth')
    return config.parent / 'model.pth'


def convert(form: str, config: Path, checkpoint: Path) -> Path:
    """Return the whole checkpoint, or extract a delta from it."""
    if form == 'whole':
        return checkpoint
    path = checkpoint.with_name(f'delta{form}')
    extract_delta(Config.fromfile(config), str(checkpoint), path)
    return path


def run_fresh(code: str, *args: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-c', code, *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


FORMS = ('whole', '.pth', '.safetensors')
QUICK = {('cascade', 'whole'), ('upernet', '.safetensors')}


@pytest.mark.parametrize(
    ('model', 'form'),
    [
        pytest.param(model, form, marks=[] if (model, form) in QUICK else pytest.mark.slow)
        for model in ('cascade', 'htc', 'upernet', 'fcn')
        for form in FORMS
    ],
)
def test_init_and_inferencer(model: str, form: str, tmp_path: Path) -> None:
    """init_* and the inferencer predict the same, with the config as written and as dumped.

    Both set ``init_cfg=None`` and initialize nothing: with a delta, the frozen weights come from its base.
    """
    config = write_config(model, tmp_path)
    checkpoint = save_checkpoint(config)
    dumped = tmp_path / 'dumped.py'
    Config.fromfile(config).dump(dumped)
    kind = 'det' if model in ('cascade', 'htc') else 'seg'
    image = next((tmp_path / ('coco/val2017' if kind == 'det' else 'ade/images')).rglob('*.jpg'))
    code = SCRIPTS[kind].replace('IMPORT', 'import protuning_mm')  # mmseg's config as written needs it
    done = run_fresh(code, config, dumped, convert(form, config, checkpoint), checkpoint, image)
    assert 'predicted 2' in done.stdout, done.stdout[-1000:] + done.stderr[-3000:]


def test_dumped_mmseg_config_needs_no_import(tmp_path: Path) -> None:
    config = write_config('fcn', tmp_path)
    checkpoint = save_checkpoint(config)
    dumped = tmp_path / 'dumped.py'
    Config.fromfile(config).dump(dumped)
    image = next((tmp_path / 'ade/images').rglob('*.jpg'))
    done = run_fresh(SCRIPTS['seg'].replace('IMPORT', ''), dumped, checkpoint, checkpoint, image)
    assert 'predicted 1' in done.stdout, done.stdout[-1000:] + done.stderr[-3000:]


READ = """
import sys
from mmengine.config import Config
if sys.argv[2] == 'import':
    import protuning_mm
print('read', Config.fromfile(sys.argv[1]).model.backbone.type)
"""


@pytest.mark.parametrize(
    ('config', 'imported', 'read'),
    [
        ('det/htc_r50_protune.py', False, True),
        ('seg/fcn_r50_protune.py', True, True),
        pytest.param('seg/fcn_r50_protune.py', False, None, marks=pytest.mark.slow),
    ],
)
def test_which_source_configs_need_the_import(config: str, imported: bool, read: bool | None) -> None:
    """Configs of mmdet never need it; ``mmseg::`` needs it if the maintained packages are installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    if read is None:
        try:
            distribution('mmsegmentation')
            read = True
        except PackageNotFoundError:
            read = False
    done = run_fresh(READ, REPO / 'configs' / config, 'import' if imported else 'no')
    assert ('read protuning_mm.ProTunedResNet' in done.stdout) is read, done.stderr[-2000:]


def test_init_detector_with_a_wrong_checkpoint(tmp_path: Path) -> None:
    """init_detector ignores missing keys and init_cfg: a checkpoint without backbone would leave it random."""
    config = write_config('cascade', tmp_path)
    checkpoint = save_checkpoint(config)
    whole = torch.load(checkpoint, weights_only=False)
    whole['state_dict'] = {
        k: v for k, v in whole['state_dict'].items() if not k.startswith('backbone.') or 'prompts' in k
    }
    torch.save(whole, checkpoint)
    from mmdet.apis import init_detector

    from protuning_mm.weights import FrozenWeightsError

    with pytest.raises(FrozenWeightsError, match='conv1.weight'):
        init_detector(str(config), str(checkpoint), device='cpu')


LOAD_EVIL = """
import sys
import mmdet.apis
assert 'protuning_mm' not in sys.modules
try:
    getattr(mmdet.apis, sys.argv[3])(sys.argv[1], sys.argv[2], device='cpu')
except Exception as error:
    print('refused', type(error).__name__)
"""


@pytest.mark.parametrize('entry_point', ['DetInferencer', pytest.param('init_detector', marks=pytest.mark.slow)])
def test_pickle_that_runs_code(entry_point: str, tmp_path: Path) -> None:
    """The inferencer reads the file before it builds the model, but after the config's custom_imports."""
    from tests.test_weights.test_safe_load import Evil

    config = write_config('cascade', tmp_path)
    trap = tmp_path / 'executed'
    torch.save(dict(state_dict={}, extra=Evil(trap)), tmp_path / 'evil.pth')
    done = run_fresh(LOAD_EVIL, config, tmp_path / 'evil.pth', entry_point, cwd=tmp_path)
    assert 'refused CheckpointError' in done.stdout, done.stdout[-500:] + done.stderr[-2000:]
    assert not trap.exists()


CLASSIFY = """
import sys
import torch
import mmpretrain
assert 'protuning_mm' not in sys.modules
config, checkpoint, whole, image = sys.argv[1:]
saved = torch.load(whole, weights_only=False)['state_dict']
results = []
for make in (mmpretrain.ImageClassificationInferencer, mmpretrain.FeatureExtractor):
    inferencer = make(config, pretrained=checkpoint, device='cpu')
    assert all(torch.equal(t, saved[k]) for k, t in inferencer.model.state_dict().items())
    results.append(inferencer(image)[0])
model = mmpretrain.get_model(config, pretrained=checkpoint)
assert all(torch.equal(t, saved[k]) for k, t in model.state_dict().items())
print('predicted', results[0]['pred_class'])
"""


@pytest.mark.parametrize(
    'form', ['.pth', *(pytest.param(form, marks=pytest.mark.slow) for form in ('whole', '.safetensors'))]
)
def test_entry_points_of_mmpretrain(form: str, tmp_path: Path) -> None:
    base = write_backbone(tmp_path / 'base.pth', 'mmpretrain', stem_channels=8)
    config = write_classifier(tmp_path / 'classifier.py', base)
    whole = save_checkpoint(config)
    image = write_ade(tmp_path / 'ade') / 'images/training/0.jpg'
    done = run_fresh(CLASSIFY, config, convert(form, config, whole), whole, image, cwd=tmp_path)
    assert done.stdout.split()[-2:-1] == ['predicted'], done.stdout[-1000:] + done.stderr[-3000:]
    assert done.stdout.split()[-1] in CLASSES
