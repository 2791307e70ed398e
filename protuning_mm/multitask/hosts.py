"""Building of a task's model and test pipeline, as its host library (mmdet, mmseg or mmpretrain) builds them."""

import copy
import threading
import warnings
from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.registry import TRANSFORMS
from mmengine.runner import load_checkpoint
from torch import nn

from protuning_mm.multitask.errors import MultiTaskError

# host -> its function that builds a model for inference
_BUILDERS = dict(mmdet='mmdet.apis:init_detector', mmseg='mmseg.apis:init_model', mmpretrain='mmpretrain:get_model')
# Building depends on the default scope, which is global in a process.
_BUILDING = threading.Lock()


def load_model(
    config: Config, checkpoint: str, device: str, before_loading: Callable[[nn.Module], None]
) -> tuple[nn.Module, dict[str, Any]]:
    """Build and load a model like ``init_detector``, ``init_model`` or ``get_model``.

    Args:
        config (Config): The model's config; not changed.
        checkpoint (str): A whole checkpoint or a delta.
        device (str): Such as ``'cpu'``.
        before_loading (Callable): Called with the model before the checkpoint is loaded.

    Returns:
        tuple: The model in eval mode, and the data set's meta.

    Raises:
        MultiTaskError: the config's default scope is none of the three hosts.
        CheckpointError: the checkpoint cannot be loaded.
    """
    cfg = copy.deepcopy(config)
    host = host_of(cfg)
    with _BUILDING, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a warning that no checkpoint is given; it is loaded below
        model: Any = resolve_name(_BUILDERS[host])(cfg, device=device)
        before_loading(model)
        loaded = load_checkpoint(model, checkpoint, map_location='cpu')
    saved = loaded.get('meta', {}).get('dataset_meta') or {}
    meta = {**_meta(model), **{key.lower(): value for key, value in saved.items()}}
    if host == 'mmdet' and (set_by_config := _meta(model).get('palette', 'random')) != 'random':
        meta['palette'] = set_by_config
    if host == 'mmpretrain':
        model._dataset_meta = meta
    else:
        model.dataset_meta = meta
    model.eval()
    return model, meta


def host_of(cfg: Config) -> str:
    """Return the host library of a config, which is its default scope.

    Raises:
        MultiTaskError: the default scope is none of the three hosts.
    """
    host = cfg.get('default_scope')
    if host not in _BUILDERS:
        raise MultiTaskError(f'default_scope={host!r} in {cfg.filename}: must be one of {", ".join(_BUILDERS)}')
    return str(host)


def _meta(model: Any) -> dict[str, Any]:
    return dict(getattr(model, 'dataset_meta', None) or getattr(model, '_dataset_meta', None) or {})


class TestPipeline:
    """The test pipeline of a config, for paths and arrays.

    Args:
        cfg (Config): The task's config.

    Raises:
        MultiTaskError: the config has no test pipeline.
    """

    __test__ = False  # otherwise pytest would collect it as a test class

    def __init__(self, cfg: Config) -> None:
        self.host = host_of(cfg)
        steps = _steps(cfg)
        if self.host != 'mmdet':  # as the hosts' inference functions do
            steps = [step for step in steps if step.get('type') != 'LoadAnnotations']
        with _BUILDING, TRANSFORMS.switch_scope_and_registry(self.host) as registry:
            __import__(f'{self.host}.datasets')
            self.of_files = [registry.build(step) for step in steps]
            self.of_arrays = self.of_files[1:]
            if self.host != 'mmpretrain':
                self.of_arrays = [registry.build(dict(type='LoadImageFromNDArray')), *self.of_arrays]

    def __call__(self, image: str | np.ndarray[Any, Any]) -> dict[str, Any]:
        """Read and transform one image, collated to a batch of one.

        Raises:
            MultiTaskError: the pipeline makes several images of one.
            Exception: the image cannot be read or transformed; each library raises its own type.
        """
        if isinstance(image, np.ndarray):
            data: Any = dict(img=image, img_id=0, img_shape=image.shape[:2], ori_shape=image.shape[:2])
            transforms = self.of_arrays
        else:
            data, transforms = dict(img_path=str(image), img_id=0), self.of_files
        for transform in transforms:
            data = transform(data)
        if isinstance(data['inputs'], list):
            raise MultiTaskError('test pipelines that make several images of one (TestTimeAug) are not supported')
        # mmpretrain's inferencer stacks images before its data preprocessor runs; the other hosts pass a list
        return dict(default_collate([data]) if self.host == 'mmpretrain' else pseudo_collate([data]))


def _steps(cfg: Config) -> Sequence[Any]:
    written = cfg.get('test_pipeline') if host_of(cfg) == 'mmseg' else None
    loader: Any = cfg.get('test_dataloader') or {}
    dataset = loader.get('dataset', {})
    while written is None and 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    steps = written or dataset.get('pipeline')
    if not steps:
        raise MultiTaskError(f'{cfg.filename} has no test_dataloader.dataset.pipeline, which must read the images')
    return list(steps)
