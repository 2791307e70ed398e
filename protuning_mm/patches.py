"""Everything that protuning_mm changes in other libraries, and why.

:func:`install` runs when the package is imported. :func:`prepare_process` runs in ``tools/train.py``, ``tools/test.py``
and studies.

To go without a change at import, set ``PROTUNING_MM_SKIP_PATCHES`` to the names of functions below, separated by
commas: ``PROTUNING_MM_SKIP_PATCHES=patch_config_bases``. Each docstring says what is lost.
"""

import os
from importlib.metadata import PackageNotFoundError, distribution

import mmengine.runner
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.infer import BaseInferencer
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.runner import _flexible_runner, runner
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch.nn.modules.module import register_module_module_registration_hook

from protuning_mm.backbones.delta_loading import accept_deltas
from protuning_mm.engine.optim_constructors import build_for_host
from protuning_mm.weights.config_text import require_config
from protuning_mm.weights.load import explain_load_errors, load_url, refuse_delta_in_plain_model
from protuning_mm.weights.resumed_files import find_in_own_folder, keep_own_files_after
from protuning_mm.weights.safe_load import safe_torch_load

_SKIP = 'PROTUNING_MM_SKIP_PATCHES'
_installed: set[str] = set()


def install() -> None:
    """Apply every change that is not skipped, once.

    Raises:
        ValueError: ``PROTUNING_MM_SKIP_PATCHES`` names no function of this module.
    """
    patches = (
        patch_config_bases,
        patch_checkpoint_loading,
        patch_inferencers,
        patch_resuming,
        patch_optimizer_constructors,
        patch_module_registration,
    )
    skipped = {name.strip() for name in os.environ.get(_SKIP, '').split(',')} - {''}
    unknown = skipped - {patch.__name__ for patch in patches}
    if unknown:
        raise ValueError(f'{_SKIP}={os.environ[_SKIP]}: there is no {sorted(unknown)[0]!r} in protuning_mm.patches')
    for patch in patches:
        if patch.__name__ not in skipped | _installed:
            patch()
            _installed.add(patch.__name__)


def patch_config_bases() -> None:
    """Let ``_base_ = 'protuning_mm::…'`` and ``'mmseg::…'`` find the packages' configs.

    Replaced: two entries of ``mmengine.config.utils.MODULE2PACKAGE``, and ``Config._get_cfg_path``. mmengine resolves
    ``package::path`` by a fixed table from module to distribution. The table lacks this package, and it maps ``mmseg``
    to ``mmsegmentation``, while the maintained distribution is ``onedl-mmsegmentation``. mmengine also looks up every
    ``type`` of such a config in the package's scope; the configs of this package use types of their host, whose scope
    is their ``default_scope``.

    Without it: name configs by their file paths.
    """
    package = 'protuning_mm'
    MODULE2PACKAGE[package] = package
    try:
        distribution('mmsegmentation')
    except PackageNotFoundError:
        MODULE2PACKAGE['mmseg'] = 'mmseg'
    get_path = Config._get_cfg_path

    def get_path_and_scope(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = get_path(cfg_path, filename)
        return path, None if scope == package else scope

    Config._get_cfg_path = staticmethod(get_path_and_scope)


def patch_checkpoint_loading() -> None:
    """Load checkpoints without running code, verify their checksums, and refuse deltas in plain models.

    Replaced: ``_safe_torch_load``, ``load_url``, ``load_state_dict`` and ``CheckpointLoader.load_checkpoint`` of
    ``mmengine.runner.checkpoint``. mmengine falls back to unpickling any object, which runs code, and downloads are
    unpickled by ``torch.hub``.

    Without it: a checkpoint from someone else can run code, and a damaged one may load.
    """
    mmengine_checkpoint._safe_torch_load = safe_torch_load
    mmengine_checkpoint.load_url = load_url
    mmengine_checkpoint.load_state_dict = refuse_delta_in_plain_model(mmengine_checkpoint.load_state_dict)
    loader = mmengine_checkpoint.CheckpointLoader
    loader.load_checkpoint = classmethod(explain_load_errors(loader.load_checkpoint.__func__))


def patch_inferencers() -> None:
    """Refuse an inferencer that is given weights and no config.

    Replaced: ``mmengine.infer.BaseInferencer._init_model``, which parses the config's text inside the checkpoint as
    Python and builds whatever it names.

    Without it: ``DetInferencer(weights=FILE)`` fails later, because loading removes that text.
    """
    BaseInferencer._init_model = require_config(BaseInferencer._init_model)


def patch_resuming() -> None:
    """Let a resumed run remove and open only files of its own work dir.

    Replaced: ``resume`` of mmengine's two runners, and ``find_latest_checkpoint`` where they look it up. mmengine
    removes the best checkpoint that the resumed checkpoint names, wherever that file is.

    Without it: resuming a checkpoint from someone else can remove any file, and a copied work dir removes the
    original's best checkpoint.
    """
    for module, kind in ((runner, runner.Runner), (_flexible_runner, _flexible_runner.FlexibleRunner)):
        kind.resume = keep_own_files_after(kind.resume)
        module.find_latest_checkpoint = find_in_own_folder(module.find_latest_checkpoint)
    mmengine.runner.find_latest_checkpoint = runner.find_latest_checkpoint  # strategies look it up here


def patch_optimizer_constructors() -> None:
    """Show optimizer constructors the host's backbone, and give added parameters the full learning rate.

    Replaced: ``DefaultOptimWrapperConstructor.__call__`` of mmengine, with which the constructors of all hosts begin.
    Constructors of layer-wise learning rates ask for the backbone's class or ``get_layer_depth``.

    Without it: layer-wise learning rates fail on a tuned backbone, and ``custom_keys={'backbone': dict(lr_mult=0.1)}``
    slows prompts down.
    """
    build = DefaultOptimWrapperConstructor.__call__
    DefaultOptimWrapperConstructor.__call__ = build_for_host(build)


def patch_module_registration() -> None:
    """Let every model that takes in a tuned backbone complete a delta before it loads one.

    Added: a hook that torch calls whenever a module gets a child. A delta's record covers the whole model, whose class
    is the host's.

    Without it: load deltas by :func:`protuning_mm.load_delta` into the backbone, or merge them first.
    """
    register_module_module_registration_hook(accept_deltas)


def prepare_process(scope: str) -> None:
    """Make data errors name their files, for the rest of the process; the same for training, testing and studies.

    Replaced: ``transform`` of mmcv's ``LoadImageFromFile`` (truncated and undecodable images), ``__call__`` of its
    ``BaseTransform`` (images too thin for a resize), ``_serialize_data`` of mmengine's ``BaseDataset`` (empty data
    sets), the host's ``LoadAnnotations`` (label maps that do not fit), and ``__init__`` of mmdet's COCO metrics
    (annotations without ``iscrowd``, annotation ids of 0).

    Args:
        scope (str): The config's default scope.
    """
    from protuning_mm.data import patch_empty_data_sets, patch_image_loading, patch_label_loading, patch_transforms
    from protuning_mm.data.metrics.ground_truth import patch_coco_metrics

    patch_empty_data_sets()
    patch_image_loading()
    patch_transforms()
    patch_label_loading(scope)
    patch_coco_metrics(scope)
