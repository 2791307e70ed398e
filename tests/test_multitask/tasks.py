"""Small tasks on one ResNet-18: a detector, a segmentor and a classifier, each of another host library."""

import copy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from protuning_mm.cli.convert_delta import extract_delta
from protuning_mm.engine.build_model import build_model
from protuning_mm.multitask import MultiTask
from tests.mini import CLASSES, write_ade, write_backbone, write_classifier, write_coco, write_config
from tests.plain import fill

PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


class Workshop:
    """Writes tasks into a folder: configs, and checkpoints whose trained tensors are random."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = write_backbone(folder / 'base.pth')
        coco, ade = write_coco(folder / 'coco'), write_ade(folder / 'ade')
        self.images = sorted(map(str, (coco / 'val2017').glob('*.jpg')))
        plain = (
            f"\nmodel['backbone'].update(deep_stem=False, stem_channels=8)\nmodel['pretrained'] = {str(self.base)!r}\n"
        )
        self.configs: dict[str, Path] = {}
        for kind, model, extra, data in (('det', 'cascade', '', coco), ('seg', 'upernet', plain, ade)):
            where = folder / kind
            where.mkdir()
            self.configs[kind] = write_config(model, where, extra, data)
            text = self.configs[kind].read_text()
            self.configs[kind].write_text(text.replace(f'{where}/resnet18.pth', str(self.base)))
        self.configs['cls'] = write_classifier(folder / 'classifier.py', self.base)

    def config(self, kind: str, tuning: Any = None, **backbone: Any) -> Config:
        cfg = Config.fromfile(self.configs[kind])
        if tuning is not None:
            cfg.model.backbone.tuning = tuning
        cfg.model.backbone.update(backbone)
        return cfg

    def task(
        self, kind: str, tuning: Any = None, seed: int = 0, form: str = 'whole', **backbone: Any
    ) -> tuple[Config, str]:
        """Return a config and the path of a checkpoint; ``form`` is whole or delta."""
        cfg = self.config(kind, tuning, **backbone)
        torch.manual_seed(seed)
        model: Any = build_model(copy.deepcopy(cfg))
        model.init_weights()
        frozen = {k: t.clone() for k, t in model.backbone.frozen_tensors().items()}
        fill(model, seed)
        for key, tensor in model.backbone.frozen_tensors().items():
            tensor.copy_(frozen[key])
        path = self.folder / f'{kind}_{seed}_{len(list(self.folder.iterdir()))}.pth'
        meta = dict(dataset_meta=dict(classes=CLASSES, palette=PALETTE))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
        if form == 'delta':
            whole, path = path, path.with_name(f'delta_{path.name}')
            extract_delta(cfg, str(whole), path)
        return cfg, str(path)


def load_by_host(cfg: Config, checkpoint: str) -> nn.Module:
    """Build and load a model by its host's own function."""
    cfg = copy.deepcopy(cfg)
    if cfg.default_scope == 'mmdet':
        from mmdet.apis import init_detector

        return init_detector(cfg, checkpoint, device='cpu')
    if cfg.default_scope == 'mmseg':
        from mmseg.apis import init_model

        return init_model(cfg, checkpoint, device='cpu')
    from mmpretrain import get_model

    return get_model(cfg, pretrained=checkpoint, device='cpu')


def infer_by_host(model: Any, images: list[str]) -> list[Any]:
    """Predict by the host's own function, image by image."""
    host = type(model).__module__.split('.')[0]
    if host == 'mmdet':
        from mmdet.apis import inference_detector

        return [inference_detector(model, image) for image in images]
    if host == 'mmseg':
        from mmseg.apis import inference_model

        return [inference_model(model, image) for image in images]
    from mmpretrain import ImageClassificationInferencer

    init_default_scope('mmpretrain')  # the inferencer builds its transforms in this scope
    inferencer = ImageClassificationInferencer(model)
    return [inferencer(image, return_datasamples=True)[0] for image in images]


def joint_networks(multitask: MultiTask) -> list[Any]:
    """Return the joint networks that exist now."""
    joint = multitask._snapshot.joint
    return [] if joint is None else [each.network for each in joint.networks.values()]
