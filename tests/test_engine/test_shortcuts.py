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
