"""Where features cannot be stored, the error says why and what to do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from protuning_mm import TUNINGS, TuningError
from protuning_mm.data import DataError
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.hooks import feature_cache_hook
from protuning_mm.tunings import Tuning
from protuning_mm.tunings.pro import ProTuning
from tests.test_engine.test_feature_cache.small_run import FLIPPED, LATE, PLAIN, log, make_config, train


def refused(error: type[Exception], message: str, files: Path, work_dir: Path, *args: Any, **changes: Any) -> None:
    with pytest.raises(error, match=message):
        train(make_config(files, work_dir, *args, **changes))
    assert not list(work_dir.rglob('*.npy'))


@pytest.mark.parametrize('tuning', ['lora', 'bias', 'norm', 'ssf', ['pro', 'bias']])
def test_tuning_that_acts_from_the_first_stage_on(tuning: Any, files: Path, tmp_path: Path) -> None:
    message = r"before the end of the first stage.*'linear', 'ladder' and 'partial'.*prompt_stages=\(3,\)"
    refused(TuningError, message, files, tmp_path / 'run', tuning)


def test_fine_tuning(files: Path, tmp_path: Path) -> None:
    refused(TuningError, 'full: .* is in training mode', files, tmp_path / 'run', 'full')


def test_prompts_everywhere_are_not_refused(files: Path, tmp_path: Path) -> None:
    """The first stage is frozen, and the log says that the other three run."""
    runner = train(make_config(files, tmp_path / 'run', 'pro'))
    assert 'training steps no longer run the first 1 of 4 stages of the backbone' in log(runner)


def test_tuning_that_needs_the_image(files: Path, tmp_path: Path) -> None:
    refused(ConfigError, r'needs more than the stored features.*\(side; TypeError', files, tmp_path / 'run', 'side')


def test_tuning_that_reads_features_that_are_not_stored(files: Path, tmp_path: Path) -> None:
    """Its contribution is zero at first, so that the losses of the untrained model would be equal."""

    class Peeking(ProTuning):
        def __init__(self) -> None:
            super().__init__(prompt_stages=(3,))

        def after_stage(self, i: int, x: Tensor) -> Tensor:
            if i == 0:
                self.seen = x.mean()
            return super().after_stage(i, x) * (1 + self.weight * self.seen) if i == 3 else super().after_stage(i, x)

        def setup(self, backbone: Any, stages: Any) -> None:
            super().setup(backbone, stages)
            self.weight = torch.nn.Parameter(torch.zeros(()))
            assert self.added is not None
            self.added.register_parameter('weight', self.weight)

    TUNINGS.register_module('peeking', module=Peeking)
    try:
        message = r'losses or gradients differ from those on the images by inf \(peeking\)'
        refused(ConfigError, message, files, tmp_path / 'run', 'peeking')
    finally:
        TUNINGS.module_dict.pop('peeking')


class Doubling(Tuning):
    """Random, without a parameter and without torch's, numpy's or Python's generators."""

    calls = 0

    def after_stage(self, i: int, x: Tensor) -> Tensor:
        Doubling.calls += 1
        return x * Doubling.calls


def test_backbone_that_changes_from_pass_to_pass(files: Path, tmp_path: Path) -> None:
    TUNINGS.register_module('doubling', module=Doubling)
    try:
        refused(ConfigError, 'differ from those on the images by', files, tmp_path / 'run', 'doubling')
    finally:
        TUNINGS.module_dict.pop('doubling')


def test_random_transform_is_named(files: Path, tmp_path: Path) -> None:
    message = r'because RandomFlip in its pipeline draws random numbers.*cache_features=dict\(draws=4\)'
    refused(DataError, message, files, tmp_path / 'run', pipeline=FLIPPED)


def test_transform_with_a_generator_of_its_own(files: Path, tmp_path: Path) -> None:
    from mmcv.transforms import TRANSFORMS, BaseTransform

    @TRANSFORMS.register_module(force=True)
    class Darker(BaseTransform):
        calls = 0

        def transform(self, results: dict[str, Any]) -> dict[str, Any]:
            Darker.calls += 1
            results['img'] = results['img'] // (1 + Darker.calls % 7)
            return results

    pipeline = [*PLAIN[:-1], dict(type='Darker'), PLAIN[-1]]
    try:
        with pytest.raises(DataError, match='the features of the first images differ between two passes'):
            train(make_config(files, tmp_path / 'run', pipeline=pipeline))
    finally:
        TRANSFORMS.module_dict.pop('Darker')


def test_mixup(files: Path, tmp_path: Path) -> None:
    cfg = make_config(files, tmp_path / 'run')
    cfg.model.train_cfg = dict(augments=dict(type='Mixup', alpha=0.8))
    with pytest.raises(ConfigError, match='the data preprocessor draws random numbers, as for Mixup or CutMix'):
        train(cfg)


def test_images_of_several_sizes(files: Path, tmp_path: Path) -> None:
    pipeline = [PLAIN[0], PLAIN[2]]
    collate = dict(loader=dict(collate_fn=dict(type='pseudo_collate')), pipeline=pipeline)
    message = r'several sizes, such as \(3, 40, 4[89]\) and \(3, 40, 4[89]\)'
    refused(DataError, message, files, tmp_path / 'run', **collate)


def test_too_large(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 images of (64, 1, 1) floats: 3,072 bytes."""
    message = r'12 images need 0.0 GB, 0 kB an image \(stage4 \(64, 1, 1\)\), more than max_gb=3e-06 allows in'
    refused(DataError, message, files, tmp_path / 'run', cache=dict(max_gb=3e-6))
    train(make_config(files, tmp_path / 'fits', cache=dict(max_gb=3.1e-6)))
    usage = type('Usage', (), dict(free=3200))
    monkeypatch.setattr('shutil.disk_usage', lambda path: usage)
    refused(DataError, r'more than are free \(0.0 GB\) in', files, tmp_path / 'full')


def test_several_processes(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache_hook, 'get_world_size', lambda: 2)
    refused(ConfigError, 'for one process only', files, tmp_path / 'run')


def test_hook_without_the_wrapper(files: Path, tmp_path: Path) -> None:
    cfg = make_config(files, tmp_path / 'run', cache=False, custom_hooks=[dict(type='protuning_mm.FeatureCacheHook')])
    with pytest.raises(ConfigError, match='not wrapped in CachedSamples; set the config key cache_features=True'):
        train(cfg)


def test_plain_backbone(files: Path, tmp_path: Path) -> None:
    cfg = make_config(files, tmp_path / 'run', LATE)
    cfg.model.backbone = cfg.model.backbone.backbone
    with pytest.raises(ConfigError, match=r'the model has 0 tuned backbones \(none\)'):
        train(cfg)


def test_data_set_without_infos(files: Path, tmp_path: Path) -> None:
    cfg = make_config(files, tmp_path / 'run')
    wrapper = cfg.train_dataloader.dataset
    wrapper.dataset = dict(type='WithoutInfos', dataset=wrapper.dataset)
    from mmengine.registry import DATASETS

    class WithoutInfos:
        metainfo: dict[str, Any] = {}  # noqa: RUF012

        def __init__(self, dataset: Any) -> None:
            self.inner = DATASETS.build(dataset)

        def __len__(self) -> int:
            return len(self.inner)

        def __getitem__(self, i: int) -> Any:
            return self.inner[i]

    DATASETS.register_module(module=WithoutInfos)
    try:
        with pytest.raises(DataError, match='WithoutInfos has no get_data_info'):
            train(cfg)
    finally:
        DATASETS.module_dict.pop('WithoutInfos')


@pytest.mark.parametrize('draws', [0, 1.5, 'two'])
def test_draws(draws: Any) -> None:
    with pytest.raises(ConfigError, match=f'draws={draws!r} must be a whole number, 1 or more'):
        feature_cache_hook.FeatureCacheHook(draws=draws)
