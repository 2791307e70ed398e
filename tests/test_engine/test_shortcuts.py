"""Short keys of a config."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from protuning_mm.cli.train import build_config, parse_args
from protuning_mm.engine.config import read_config
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.shortcuts import lay_shortcuts
from protuning_mm.engine.tune_config import tune_config

NAME = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'


@pytest.mark.parametrize('tuning', ['pro', dict(type='lora', rank=8), ['bias', 'pro']])
def test_tune(tuning: Any) -> None:
    assert read_config(NAME, dict(tune=tuning)).to_dict() == tune_config(read_config(NAME), tuning).to_dict()


def test_unknown_tuning() -> None:
    with pytest.raises(ConfigError, match="there is no tuning 'prro'"):
        read_config(NAME, dict(tune='prro'))


def test_data_repeats() -> None:
    plain, repeated = read_config(NAME), read_config(NAME, dict(data_repeats=4))
    assert repeated.train_dataloader.dataset == dict(
        type='RepeatDataset', times=4, dataset=plain.train_dataloader.dataset
    )
    assert repeated.val_dataloader == plain.val_dataloader and 'data_repeats' not in repeated
    with pytest.raises(ConfigError, match='data_repeats=0.5 must be a whole number, 1 or more'):
        read_config(NAME, dict(data_repeats=0.5))


def test_repeats_where_hooks_address_the_data_set() -> None:
    mixed = read_config('mmdet::yolox/yolox_s_8xb8-300e_coco.py', dict(data_repeats=4)).train_dataloader.dataset
    assert (mixed.type, mixed.dataset.type, mixed.dataset.times) == ('MultiImageMixDataset', 'RepeatDataset', 4)
    with pytest.raises(ConfigError, match='data_repeats=4: PipelineSwitchHook exchanges the pipeline'):
        read_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', dict(data_repeats=4))


def test_cache_features() -> None:
    plain = read_config(NAME)
    hook = dict(type='protuning_mm.FeatureCacheHook')
    for value, settings in ((True, {}), ('features', dict(folder='features')), (dict(draws=2), dict(draws=2))):
        cfg = read_config(NAME, dict(cache_features=value))
        dataset = plain.train_dataloader.dataset
        assert cfg.train_dataloader.dataset == dict(type='CachedSamples', dataset=dataset)
        assert cfg.custom_hooks == [hook | settings] and 'cache_features' not in cfg
        assert cfg.val_dataloader == plain.val_dataloader
    both = read_config(NAME, dict(cache_features=True, data_repeats=4)).train_dataloader.dataset
    assert (both.type, both.dataset.type, both.dataset.dataset) == ('RepeatDataset', 'CachedSamples', dataset)
    assert read_config(NAME, dict(cache_features=False)).to_dict() == plain.to_dict()


def test_cache_features_on_the_command_line(tmp_path: Path) -> None:
    """In place of the file's; the other options address the data set without its wrapper."""
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = '{NAME}'\ncustom_hooks = [dict(type='EMAHook')]\ncache_features = 'of the file'\n")
    for options, settings in (
        (['cache_features.draws=2', 'cache_features.folder=x'], dict(draws=2, folder='x')),
        (['cache_features=True'], {}),
        ([], dict(folder='of the file')),
        (['cache_features=False'], None),
    ):
        data = 'train_dataloader.dataset.' + ('' if options else 'dataset.') + 'ann_file=mine.json'
        cfg = build_config(parse_args([str(path), '--tune', 'linear', '--cfg-options', data, *options]))
        added = [] if settings is None else [dict(type='protuning_mm.FeatureCacheHook', **settings)]
        assert cfg.custom_hooks == [dict(type='EMAHook'), *added]
        dataset = cfg.train_dataloader.dataset
        assert (dataset if settings is None else dataset.dataset).ann_file == 'mine.json'
        assert 'cache_features' not in cfg and cfg.model.backbone.tuning == 'linear'


@pytest.mark.parametrize('value', [3, [True], dict(draw=2), None])
def test_wrong_cache_features(value: Any) -> None:
    if value is None:
        cfg = Config(dict(model=dict(type='Detector'), cache_features=True))
        with pytest.raises(ConfigError, match='cache_features=True: the config has no train_dataloader'):
            lay_shortcuts(cfg)
        return
    with pytest.raises(
        ConfigError, match=r'cache_features=.*: write True, a folder, or dict\(\) with folder, draws, max_gb'
    ):
        read_config(NAME, dict(cache_features=value))


def test_cached_features_of_a_pipeline_that_a_hook_exchanges() -> None:
    with pytest.raises(ConfigError, match='cache_features: PipelineSwitchHook exchanges the pipeline'):
        read_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', dict(cache_features=True))


def test_data_that_is_a_variable_of_the_config() -> None:
    cfg = Config.fromstring(
        """
data = 'data/mine/'
model = dict(type='Detector')
train_dataloader = dict(dataset=dict(type='CocoDataset', data_root='data/mine', ann_file=data + 'train.json'))
""",
        '.py',
    )
    assert lay_shortcuts(cfg) is cfg
    part = Config(dict(data='data/mine', tune='pro'))  # without a model
    assert lay_shortcuts(part) is part


def test_a_config_without_short_keys_is_returned_as_it_is() -> None:
    cfg = Config(dict(model=dict(type='Detector'), data=dict(samples_per_gpu=2)))
    assert lay_shortcuts(cfg) is cfg


def test_options_take_the_place_of_a_file_s_keys(tmp_path: Path) -> None:
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = '{NAME}'\ndata_repeats = 7\ntune = 'pro'\n")
    options = ['--cfg-options', 'data_repeats=2', 'tune=bias', 'train_dataloader.dataset.times=3']
    cfg = build_config(parse_args([str(path), *options]))
    assert (cfg.train_dataloader.dataset.times, cfg.train_dataloader.dataset.dataset.type) == (3, 'CocoDataset')
    assert cfg.model.backbone.tuning == 'bias'
