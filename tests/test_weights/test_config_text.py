"""The text of a config inside a checkpoint reaches neither mmengine's parser nor its registries, at any entry point."""

import copy
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, Registry

from protuning_mm.data.metrics import ShotGroups
from protuning_mm.weights import CheckpointError, load_checkpoint_file
from protuning_mm.weights.safetensors_file import save_safetensors
from tests import canary
from tests.tiny import TinyClassifier, Weights, runner, tuned_resnet

MODEL = "model = dict(type='tests.canary.sing')\n"
ATTACKS = {
    'dotted type': MODEL,
    'dotted type in a pipeline': "model = dict(backbone=dict(type='ResNet'))\n"
    "test_dataloader = dict(dataset=dict(pipeline=[dict(type='tests.canary.sing')]))\n",
    'custom_imports': "custom_imports = dict(**dict(imports=['tests.bird']))\n" + MODEL,
    '_base_ in a template': "_base_ = 'BASE'\nmodel = dict(type={{_base_.name}})\n",
    'environment in a template': "model = dict(type='{{$NO_SUCH_VARIABLE:tests.canary.sing}}')\n",
}


class Inferencer(BaseInferencer):
    """mmengine's inferencer, without a host library."""

    def visualize(self, *args: Any, **kwargs: Any) -> None: ...

    def postprocess(self, *args: Any, **kwargs: Any) -> None: ...

    def _init_pipeline(self, cfg: Any) -> Any: ...


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Completes the text of an attack, and checks at the end that nothing it names was called or run."""
    base = tmp_path / 'base.py'
    base.write_text(f"open({str(tmp_path / 'base was run')!r}, 'w')\nname = 'tests.canary.sing'\n")
    canary.calls.clear()
    yield lambda text: text.replace('BASE', str(base))
    assert not canary.calls and not (tmp_path / 'base was run').exists()


def holding(text: Any, place: str = 'both') -> dict[str, Any]:
    meta: dict[str, Any] = dict(epoch=1, iter=2, dataset_meta=dict(classes=('a', 'b'), palette=[[1, 2, 3], [4, 5, 6]]))
    hub: dict[str, Any] = dict(runtime_info=dict(epoch=1), log_scalars={}, resumed_keys={})
    if place in ('meta', 'both'):
        meta |= dict(cfg=text, config=text)
    if place in ('message_hub', 'both'):
        hub['runtime_info'] |= dict(cfg=text)
    return dict(state_dict={'w': torch.ones(1)}, meta=meta, message_hub=hub)


def inferencers() -> dict[str, type[BaseInferencer]]:
    from mmdet.apis import DetInferencer
    from mmseg.apis import MMSegInferencer

    return dict(mmengine=Inferencer, mmdet=DetInferencer, mmseg=MMSegInferencer)


@pytest.mark.parametrize('entry_point', ['mmengine', 'mmdet', 'mmseg'])
@pytest.mark.parametrize('attack', ATTACKS)
def test_an_inferencer_asks_for_the_config(
    attack: str, entry_point: str, silent: Callable[[str], str], tmp_path: Path
) -> None:
    path = str(tmp_path / 'evil.pth')
    for place in ('meta', 'message_hub', 'both'):
        torch.save(holding(silent(ATTACKS[attack]), place), path)
        with pytest.raises(CheckpointError, match=r'evil.pth.*needs the config too.*<config>'):
            inferencers()[entry_point](None, path, device='cpu')


@pytest.mark.parametrize('attack', ATTACKS)
def test_the_attacks_run_without_protection(attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mmengine parses the text and builds what it names."""
    canary.calls.clear()
    base, bird = tmp_path / 'base.py', tmp_path / 'tests_bird.py'
    base.write_text("name = 'tests.canary.sing'\n")
    bird.write_text('from tests import canary\ncanary.sing()\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    text = ATTACKS[attack].replace('BASE', str(base)).replace('tests.bird', 'tests_bird')
    cfg = Config.fromstring(text, '.py')
    if attack == 'custom_imports':  # parsing is enough
        assert canary.calls
        return
    built = cfg.model if 'type' in cfg.model else cfg.test_dataloader.dataset.pipeline[0]
    with pytest.raises(Exception, match='.*'):  # the returned object is no model
        MODELS.build(built)
        raise RuntimeError
    assert canary.calls
    canary.calls.clear()


@pytest.mark.parametrize('attack', ATTACKS)
def test_text_is_dropped_whenever_a_file_is_read(attack: str, silent: Callable[[str], str], tmp_path: Path) -> None:
    """``.pth``, old and new, and ``.safetensors``; classes, palette and other data are kept."""
    whole = holding(silent(ATTACKS[attack]))
    torch.save(whole, tmp_path / 'a.pth')
    torch.save(whole, tmp_path / 'b.pth', _use_new_zipfile_serialization=False)
    save_safetensors(whole['state_dict'], whole['meta'], tmp_path / 'c.safetensors')
    expected = holding('', place='none')
    for name in ('a.pth', 'b.pth', 'c.safetensors'):
        got = load_checkpoint_file(str(tmp_path / name))
        assert list(got['meta']) == list(expected['meta'])
        assert list(got['meta']['dataset_meta']['classes']) == ['a', 'b']
        assert 'message_hub' not in got or got['message_hub'] == expected['message_hub']


def test_resumed_run_keeps_its_own_config(weights: Weights, silent: Callable[[str], str], tmp_path: Path) -> None:
    """``Runner.resume`` loads the message hub, and ShotGroups reads the training set's config from it."""
    run = runner(TinyClassifier(tuned_resnet(weights('mmdet', depth=18))), tmp_path / 'a', epochs=1)
    run.train()
    path = tmp_path / 'a/epoch_1.pth'
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint['message_hub']['runtime_info']['cfg'] == checkpoint['meta']['cfg'] == run.cfg.pretty_text
    evil = silent("train_dataloader = dict(dataset=dict(type='tests.canary.sing'))\n")
    checkpoint['message_hub']['runtime_info']['cfg'] = evil
    checkpoint['meta'] |= dict(cfg=evil, config=evil)
    torch.save(checkpoint, tmp_path / 'evil.pth')
    model = TinyClassifier(tuned_resnet())
    resumed = runner(model, tmp_path / 'b', epochs=2, resume=True, load_from=str(tmp_path / 'evil.pth'))
    resumed.train()
    assert resumed.epoch == 2
    assert MessageHub.get_current_instance().get_info('cfg') == resumed.cfg.pretty_text
    with pytest.raises(ValueError, match='no train_dataloader'):  # the config of this run is an object, not text
        ShotGroups().compute_metrics([(0, 0)])
    saved = torch.load(tmp_path / 'b/epoch_2.pth', weights_only=False)
    assert saved['message_hub']['runtime_info']['cfg'] == saved['meta']['cfg'] == resumed.cfg.pretty_text


# Configs: a grammar of everything to which mmengine gives a meaning.
_NAMES = st.sampled_from(
    ['model', 'custom_imports', '_base_', 'test_dataloader', 'a', 'default_scope', '_scope_', 'lazy_import']
)
_KEYS = st.sampled_from(
    ['type', 'imports', '_delete_', '_scope_', 'dataset', 'pipeline', 'init_cfg', 'checkpoint', 'a']
)
_TEXTS = st.sampled_from(
    [
        'tests.canary.sing',
        'os.system',
        'subprocess.getoutput',
        'builtins.exec',
        'tests.bird',
        'mmengine::tests.canary.sing',
        '{{$NO_SUCH:tests.canary.sing}}',
        '{{fileDirname}}',
        'ResNet',
        'mmdet::_base_/default_runtime.py',
    ]
)
_LEAVES = _TEXTS.map(repr) | st.sampled_from(
    [
        '1',
        'True',
        'None',
        '{{_base_.name}}',
        '{{$NO_SUCH:"tests.canary.sing"}}',
        "__import__('tests.canary').canary.sing()",
    ]
)


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(_KEYS, inner), max_size=3)
    return (
        pairs.map(lambda found: f'dict({", ".join(f"{k}={v}" for k, v in dict(found).items())})')
        | pairs.map(lambda found: '{' + ', '.join(f'{k!r}: {v}' for k, v in found) + '}')
        | inner.map(lambda value: f'dict(**{value})')
        | st.lists(inner, max_size=3).map(lambda found: f'[{", ".join(found)}]')
        | inner.map(lambda value: f'(lambda: {value})()')
    )


_STATEMENTS = st.tuples(_NAMES, st.recursive(_LEAVES, _compound, max_leaves=8)).map(' = '.join) | st.sampled_from(
    [
        'import tests.bird',
        'from tests.canary import sing; sing()',
        'with read_base():\n    from .x import *',
        "exec('1')",
    ]
)
CONFIGS = st.lists(_STATEMENTS, min_size=1, max_size=5).map('\n'.join) | st.text(max_size=30) | st.none()


@given(text=CONFIGS, place=st.sampled_from(['meta', 'message_hub', 'both']))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_generated_configs(text: str | None, place: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No text is parsed, nothing is looked up in a registry, and no entry point passes the text on."""
    path = str(tmp_path_factory.getbasetemp() / 'generated.pth')
    torch.save(holding(text, place), path)
    with pytest.MonkeyPatch.context() as patch:
        touched: list[str] = []
        for owner, name in (
            (Config, 'fromstring'),
            (Config, 'fromfile'),
            (Config, '_file2dict'),
            (Registry, 'get'),
            (Registry, 'build'),
            (importlib, 'import_module'),
            (os, 'system'),
        ):
            patch.setattr(owner, name, lambda *args, _name=name, **kwargs: touched.append(_name))
        canary.calls.clear()
        with pytest.raises(CheckpointError, match='needs the config too'):
            Inferencer(None, path, device='cpu')
        got = load_checkpoint_file(path)
    assert not touched and not canary.calls and 'tests.bird' not in sys.modules
    assert not {'cfg', 'config'} & (set(got['meta']) | set(got['message_hub']['runtime_info']))
    assert got['meta']['dataset_meta'] == dict(classes=('a', 'b'), palette=[[1, 2, 3], [4, 5, 6]])


def test_with_a_config_an_inferencer_reads_the_file(silent: Callable[[str], str], tmp_path: Path) -> None:
    """The text in the file is ignored, and its data are loaded."""
    seen = []

    class Reads(Inferencer):
        def _load_weights_to_model(self, model: Any, checkpoint: Any, cfg: Any) -> None:
            seen.append(copy.deepcopy(checkpoint))

    torch.save(holding(silent(MODEL)), tmp_path / 'evil.pth')
    MODELS.register_module(name='CanaryNet', module=torch.nn.Identity, force=True)
    Reads(dict(model=dict(type='CanaryNet')), str(tmp_path / 'evil.pth'), device='cpu')
    assert seen[0]['meta']['dataset_meta']['classes'] == ('a', 'b') and 'cfg' not in seen[0]['meta']
