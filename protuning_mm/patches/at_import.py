"""The patches that the package applies when it is imported."""

import logging
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import mmengine.logging
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
from protuning_mm.patches.replacing import call_around, skippable, wrap
from protuning_mm.weights import hub, packaged
from protuning_mm.weights.config_text import require_config
from protuning_mm.weights.load import explain_load_errors, load_url, refuse_delta_in_plain_model
from protuning_mm.weights.resumed_files import find_in_own_folder, restrict_resumed_files
from protuning_mm.weights.safe_load import safe_torch_load


@skippable
def patch_config_bases() -> None:
    """Let ``_base_ = 'protuning_mm::…'`` and ``'mmseg::…'`` find the packages' configs.

    Replaced: two entries of ``mmengine.config.utils.MODULE2PACKAGE``, and ``Config._get_cfg_path``. mmengine resolves
    ``package::path`` by a fixed table from module to distribution. The table does not contain this package, and it maps
    ``mmseg`` to ``mmsegmentation``, while the maintained distribution is ``onedl-mmsegmentation``. mmengine also looks
    up every ``type`` of such a config in the package's scope. The configs of this package use types of a host library,
    whose scope is their ``default_scope``.

    Upstream: open-mmlab/mmengine#1411 (other packages cannot be named), open-mmlab/mmengine#1581.

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


@skippable
def patch_checkpoint_loading() -> None:
    """Load checkpoints without running code, verify their checksums, and refuse deltas in plain models.

    Replaced: ``_safe_torch_load``, ``load_url``, ``load_state_dict`` and ``CheckpointLoader.load_checkpoint`` of
    ``mmengine.runner.checkpoint``. mmengine falls back to unpickling any object, which runs code, and ``torch.hub``
    unpickles downloads. Added: the schemes ``pip://``, for checkpoints in installed packages, and ``hf://``, for deltas
    on the Hugging Face Hub.

    Upstream: open-mmlab/mmengine#1655 (the restricted unpickler refuses mmengine's own checkpoints).

    Without it: a checkpoint from someone else can run code, and a damaged one may load.
    """
    mmengine_checkpoint._safe_torch_load = safe_torch_load
    mmengine_checkpoint.load_url = load_url
    mmengine_checkpoint.load_state_dict = call_around(mmengine_checkpoint.load_state_dict, refuse_delta_in_plain_model)
    loader = mmengine_checkpoint.CheckpointLoader
    loader.load_checkpoint = classmethod(call_around(loader.load_checkpoint.__func__, explain_load_errors))
    loader.register_scheme(packaged.SCHEME, packaged.load_packaged)
    loader.register_scheme(hub.SCHEME, hub.load_from_hub)


@skippable
def patch_inferencers() -> None:
    """Refuse an inferencer that is given weights and no config.

    Replaced: ``mmengine.infer.BaseInferencer._init_model``, which parses the text of the config inside the checkpoint
    as Python and builds whatever it names.

    Upstream: introduced by open-mmlab/mmengine#864; we know no issue about it.

    Without it: ``DetInferencer(weights=FILE)`` fails later, because loading removes that text.
    """
    BaseInferencer._init_model = call_around(BaseInferencer._init_model, require_config)


@skippable
def patch_resuming() -> None:
    """Let a resumed run remove and open only files of its own work dir.

    Replaced: ``resume`` of mmengine's two runners, and ``find_latest_checkpoint`` where they look it up. mmengine
    removes the best checkpoint that the resumed checkpoint names, wherever that file is.

    Upstream: we know no issue.

    Without it: resuming a checkpoint from someone else can remove any file, and a copied work dir removes the
    original's best checkpoint.
    """
    for module, kind in ((runner, runner.Runner), (_flexible_runner, _flexible_runner.FlexibleRunner)):
        kind.resume = call_around(kind.resume, restrict_resumed_files)
        module.find_latest_checkpoint = call_around(module.find_latest_checkpoint, find_in_own_folder)
    mmengine.runner.find_latest_checkpoint = runner.find_latest_checkpoint  # strategies look it up here


@skippable
def patch_optimizer_constructors() -> None:
    """Show optimizer constructors the plain backbone, and give added parameters the full learning rate.

    Replaced: ``DefaultOptimWrapperConstructor.__call__`` of mmengine, which the constructors of all host libraries
    inherit. Constructors of layer-wise learning rates ask for the backbone's class or ``get_layer_depth``.

    Upstream: no defect; the constructors know only the backbones of their own library.

    Without it: layer-wise learning rates fail on a tuned backbone, and ``custom_keys={'backbone': dict(lr_mult=0.1)}``
    slows prompts down.
    """
    DefaultOptimWrapperConstructor.__call__ = build_for_host(DefaultOptimWrapperConstructor.__call__)


@skippable
def patch_module_registration() -> None:
    """Let every model that contains a tuned backbone complete a delta when it loads one.

    Added: a hook that torch calls whenever a module gets a child. A delta's record covers the whole model, and the
    model's class belongs to a host library.

    Upstream: no defect.

    Without it: load deltas by :func:`protuning_mm.load_delta` into the backbone, or merge them first.
    """
    register_module_module_registration_hook(accept_deltas)


@skippable
def patch_import_notes() -> None:
    """Leave out what the host libraries say about optional packages that nothing here needs.

    Replaced: ``print_log`` of ``mmengine.logging``, for the modules that import it later. Without a logger it prints a
    message of any level; now it prints none below ``INFO``. Added: a filter of one of mmdet's warnings.

    Upstream: we know no issue.

    Without it: commands begin with "Could not import OneDL" and "faster_coco_eval is not installed, metrics will not be
    computed". The first concerns a cloud service, the second a metric that no config here uses.
    """

    def print_from_info(method: Callable[..., None], msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
        if logger is not None or level >= logging.INFO:
            method(msg, logger, level)

    wrap(mmengine.logging, 'print_log', print_from_info)
    warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')
