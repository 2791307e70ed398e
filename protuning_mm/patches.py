"""Every attribute of another library that protuning_mm replaces, and why.

:func:`install` runs when the package is imported. :func:`prepare_process` runs in the tools and in studies.

The docstring of each ``patch_…`` function says what is replaced, why, which upstream issue describes the cause, and
what is lost without the patch. To go without a patch, name it in ``PROTUNING_MM_SKIP_PATCHES``; separate several names
by commas: ``PROTUNING_MM_SKIP_PATCHES=patch_config_bases``.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any, ParamSpec

import mmengine.logging
import mmengine.runner
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.fileio import LocalBackend
from mmengine.infer import BaseInferencer
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.runner import _flexible_runner, runner
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch.nn.modules.module import register_module_module_registration_hook

from protuning_mm.backbones.delta_loading import accept_deltas
from protuning_mm.engine.optim_constructors import build_for_host
from protuning_mm.weights import hub, packaged
from protuning_mm.weights.atomic import put_atomically, put_text_atomically
from protuning_mm.weights.config_text import require_config
from protuning_mm.weights.load import explain_load_errors, load_url, refuse_delta_in_plain_model
from protuning_mm.weights.resumed_files import find_in_own_folder, restrict_resumed_files
from protuning_mm.weights.safe_load import safe_torch_load

_SKIP = 'PROTUNING_MM_SKIP_PATCHES'
_MARK = '_replaced_by_protuning_mm'
_P = ParamSpec('_P')


@cache
def install() -> None:
    """Apply the patches that the package always needs; called when it is imported. Further calls do nothing.

    Raises:
        ValueError: ``PROTUNING_MM_SKIP_PATCHES`` contains a name that is not a patch.
    """
    patch_config_bases()
    patch_checkpoint_loading()
    patch_inferencers()
    patch_resuming()
    patch_optimizer_constructors()
    patch_module_registration()
    patch_import_notes()


def prepare_process(scope: str) -> None:
    """Apply the patches that training, testing and studies need, for the rest of the process.

    Errors in data then name their files, and files are written atomically.

    Args:
        scope (str): The config's default scope.

    Raises:
        ValueError: ``PROTUNING_MM_SKIP_PATCHES`` contains a name that is not a patch.
    """
    patch_file_writing()
    patch_empty_data_sets()
    patch_image_loading()
    patch_transforms()
    patch_label_loading(scope)
    patch_coco_metrics(scope)


def _call_around(method: Callable[..., Any], around: Callable[..., Any]) -> Callable[..., Any]:
    """Return a replacement of a method that calls ``around(method, …)`` with the method's arguments."""

    @wraps(method)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        return around(method, *args, **kwargs)

    return replacement


def _skippable(patch: Callable[_P, None]) -> Callable[_P, None]:
    """Make a patch do nothing if ``PROTUNING_MM_SKIP_PATCHES`` names it."""

    @wraps(patch)
    def apply_unless_skipped(*args: _P.args, **kwargs: _P.kwargs) -> None:
        skipped = {name.strip() for name in os.environ.get(_SKIP, '').split(',')} - {''}
        unknown = {name for name in skipped if not name.startswith('patch_') or name not in globals()}
        if unknown:
            raise ValueError(f'{_SKIP}={os.environ[_SKIP]}: there is no {sorted(unknown)[0]!r} in protuning_mm.patches')
        if patch.__name__ not in skipped:
            patch(*args, **kwargs)

    return apply_unless_skipped


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a method by one that calls ``around(method, self, …)``, unless it is replaced already."""
    method = getattr(owner, name)
    if not hasattr(method, _MARK):
        replacement = _call_around(method, around)
        setattr(replacement, _MARK, True)
        setattr(owner, name, replacement)


@_skippable
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


@_skippable
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
    mmengine_checkpoint.load_state_dict = _call_around(mmengine_checkpoint.load_state_dict, refuse_delta_in_plain_model)
    loader = mmengine_checkpoint.CheckpointLoader
    loader.load_checkpoint = classmethod(_call_around(loader.load_checkpoint.__func__, explain_load_errors))
    loader.register_scheme(packaged.SCHEME, packaged.load_packaged)
    loader.register_scheme(hub.SCHEME, hub.load_from_hub)


@_skippable
def patch_ray_replicas() -> None:
    """Let a replica of Ray Serve listen on this machine alone; a replica of ``protuning serve --ray`` calls it.

    Replaced: ``ray.serve._private.replica.add_port_to_grpc_server``. Each replica opens a port for the other replicas
    on all addresses, ``[::]:0``, and unpickles what arrives there.

    Upstream: we know no issue about it; the address is written in Ray's source.

    Without it: everybody who can reach this machine can run code in the replicas.
    """
    replica: Any = import_module('ray.serve._private.replica')
    method = replica.add_port_to_grpc_server
    if not hasattr(method, _MARK):
        replacement = _call_around(method, lambda add, server, _: add(server, '127.0.0.1:0'))
        setattr(replacement, _MARK, True)
        replica.add_port_to_grpc_server = replacement


@_skippable
def patch_inferencers() -> None:
    """Refuse an inferencer that is given weights and no config.

    Replaced: ``mmengine.infer.BaseInferencer._init_model``, which parses the text of the config inside the checkpoint
    as Python and builds whatever it names.

    Upstream: introduced by open-mmlab/mmengine#864; we know no issue about it.

    Without it: ``DetInferencer(weights=FILE)`` fails later, because loading removes that text.
    """
    BaseInferencer._init_model = _call_around(BaseInferencer._init_model, require_config)


@_skippable
def patch_resuming() -> None:
    """Let a resumed run remove and open only files of its own work dir.

    Replaced: ``resume`` of mmengine's two runners, and ``find_latest_checkpoint`` where they look it up. mmengine
    removes the best checkpoint that the resumed checkpoint names, wherever that file is.

    Upstream: we know no issue.

    Without it: resuming a checkpoint from someone else can remove any file, and a copied work dir removes the
    original's best checkpoint.
    """
    for module, kind in ((runner, runner.Runner), (_flexible_runner, _flexible_runner.FlexibleRunner)):
        kind.resume = _call_around(kind.resume, restrict_resumed_files)
        module.find_latest_checkpoint = _call_around(module.find_latest_checkpoint, find_in_own_folder)
    mmengine.runner.find_latest_checkpoint = runner.find_latest_checkpoint  # strategies look it up here


@_skippable
def patch_optimizer_constructors() -> None:
    """Show optimizer constructors the plain backbone, and give added parameters the full learning rate.

    Replaced: ``DefaultOptimWrapperConstructor.__call__`` of mmengine, which the constructors of all host libraries
    inherit. Constructors of layer-wise learning rates ask for the backbone's class or ``get_layer_depth``.

    Upstream: no defect; the constructors know only the backbones of their own library.

    Without it: layer-wise learning rates fail on a tuned backbone, and ``custom_keys={'backbone': dict(lr_mult=0.1)}``
    slows prompts down.
    """
    DefaultOptimWrapperConstructor.__call__ = build_for_host(DefaultOptimWrapperConstructor.__call__)


@_skippable
def patch_module_registration() -> None:
    """Let every model that contains a tuned backbone complete a delta when it loads one.

    Added: a hook that torch calls whenever a module gets a child. A delta's record covers the whole model, and the
    model's class belongs to a host library.

    Upstream: no defect.

    Without it: load deltas by :func:`protuning_mm.load_delta` into the backbone, or merge them first.
    """
    register_module_module_registration_hook(accept_deltas)


@_skippable
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

    _wrap(mmengine.logging, 'print_log', print_from_info)
    warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')


@_skippable
def patch_file_writing() -> None:
    """Write predictions and results atomically.

    Replaced: ``put`` and ``put_text`` of mmengine's ``LocalBackend``, which open the old file and write into it. A kill
    during the write leaves neither the old nor the new file.

    Upstream: we know no issue.

    Without it: a kill can leave a damaged file of results. Checkpoints are written atomically in any case.
    """
    LocalBackend.put, LocalBackend.put_text = put_atomically, put_text_atomically


@_skippable
def patch_empty_data_sets() -> None:
    """Say why a data set has no image.

    Replaced: ``_serialize_data`` of mmengine's ``BaseDataset``, where numpy fails on an empty data set.

    Upstream: open-mmlab/mmdetection#9610.

    Without it: "need at least one array to concatenate".
    """
    from mmengine.dataset import BaseDataset

    from protuning_mm.data.empty_data_sets import refuse_empty_data_sets

    _wrap(BaseDataset, '_serialize_data', refuse_empty_data_sets)


@_skippable
def patch_image_loading() -> None:
    """Name image files that cannot be decoded, are truncated, or have another size than annotated.

    Replaced: ``transform`` of mmcv's ``LoadImageFromFile``. OpenCV's error names no file, and OpenCV decodes half a
    file to half a picture. The class stays, because inferencers search the pipeline for its name.

    Upstream: open-mmlab/mmcv#2239.

    Without it: errors name no file, and truncated images are trained on.
    """
    from mmcv.transforms import LoadImageFromFile

    from protuning_mm.data.image_loading import name_unreadable_images

    _wrap(LoadImageFromFile, 'transform', name_unreadable_images)


@_skippable
def patch_transforms() -> None:
    """Name the image on which OpenCV fails in a transform, for example because it is too thin for its resize.

    Replaced: ``__call__`` of mmcv's ``BaseTransform``, so that the transforms of all host libraries are covered, nested
    ones included.

    Upstream: we know no issue.

    Without it: OpenCV's error names neither the file nor its size.
    """
    from mmcv.transforms import BaseTransform

    from protuning_mm.data.transform_errors import name_failing_images

    _wrap(BaseTransform, '__call__', name_failing_images)


@_skippable
def patch_label_loading(scope: str) -> None:
    """Name label maps and masks that cannot be read or do not fit their image or the classes.

    Replaced in mmseg: ``_load_seg_map`` of ``LoadAnnotations``, which silently takes the low byte of a 16-bit map, and
    ``get_data_info`` of ``BaseSegDataset``, which passes on the number of classes. Replaced in mmdet: ``_load_seg_map``
    and ``_load_masks`` of ``LoadAnnotations``.

    Upstream: we know no issue.

    Without it: an unknown label fails in torch, whose error names no file.

    Args:
        scope (str): The config's default scope. Only mmseg and mmdet have label maps.
    """
    from protuning_mm.data import label_map_loading as wrappers

    if scope == 'mmseg':
        from mmseg.datasets import BaseSegDataset
        from mmseg.datasets.transforms import LoadAnnotations

        _wrap(BaseSegDataset, 'get_data_info', wrappers.add_label_settings)
        _wrap(LoadAnnotations, '_load_seg_map', wrappers.check_mmseg_maps)
    elif scope == 'mmdet':
        from mmdet.datasets.transforms import LoadAnnotations

        _wrap(LoadAnnotations, '_load_seg_map', wrappers.check_mmdet_maps)
        _wrap(LoadAnnotations, '_load_masks', wrappers.name_unreadable_masks)


@_skippable
def patch_coco_metrics(scope: str) -> None:
    """Let COCO's evaluation accept annotations without ``iscrowd`` and annotation ids of 0.

    Replaced: ``__init__`` of mmdet's COCO metrics. pycocotools raises a KeyError without ``iscrowd``, after an epoch of
    training. An annotation id of 0 means "unmatched" to it, so a perfect detection of that object counts as missed.

    Upstream: cocodataset/cocoapi#374 (``iscrowd``), cocodataset/cocoapi#332 and cocodataset/cocoapi#664 (id 0).

    Without it: add ``iscrowd`` to the annotation file, and number its annotations from 1.

    Args:
        scope (str): The config's default scope. Only mmdet uses pycocotools.
    """
    if scope != 'mmdet':
        return
    from mmdet.evaluation.metrics import CocoMetric, CocoPanopticMetric, DODCocoMetric

    from protuning_mm.data.metrics.ground_truth import complete_ground_truth

    for metric in (CocoMetric, CocoPanopticMetric, DODCocoMetric):
        _wrap(metric, '__init__', complete_ground_truth)


@contextmanager
def use_exportable_selection(
    choose: Callable[..., Any], suppress: Callable[..., Any], select: Callable[..., Any]
) -> Iterator[None]:
    """Replace the functions with which mmdet's dense heads select boxes, while a detector is exported.

    Replaced: ``filter_scores_and_topk`` and ``batched_nms`` in the modules of ``mmdet.models.dense_heads``, until the
    block ends. Why: the first counts the boxes above the threshold in Python, which a trace keeps as a constant, and
    the second calls an operator of mmcv that other runtimes do not have. Without it: a detector cannot be exported.

    Args:
        choose (Callable): In place of ``filter_scores_and_topk``.
        suppress (Callable): In place of ``batched_nms`` in the modules that have the first function.
        select (Callable): In place of ``batched_nms`` in the other modules, with the threshold.
    """
    heads = [module for name, module in sys.modules.items() if name.startswith('mmdet.models.dense_heads.')]
    choosing = [module for module in heads if hasattr(module, 'filter_scores_and_topk')]
    new: list[tuple[Any, str, Any]] = [(module, 'filter_scores_and_topk', choose) for module in choosing]
    for module in (module for module in heads if hasattr(module, 'batched_nms')):
        new.append((module, 'batched_nms', suppress if module in choosing else select))
    with _replaced(new):
        yield


@contextmanager
def use_exportable_roi_heads(
    suppress: Callable[..., Any],
    pool: Callable[..., Any],
    align: Callable[..., Any],
    average: Callable[..., Any],
    count: Callable[..., Any],
) -> Iterator[None]:
    """Replace the functions with which mmdet's RoI heads pool features and select boxes, while a detector is exported.

    Replaced, until the block ends: ``batched_nms`` in ``mmdet.models.layers.bbox_nms``, ``forward`` of mmcv's
    ``RoIAlign`` and of mmdet's ``SingleRoIExtractor``, and ``adaptive_avg_pool2d`` in the module of HTC's head. Added:
    ``len`` to the modules of two RoI heads. Why: the first two call operators of mmcv that other runtimes do not have.
    The extractor leaves out levels without RoIs, and the heads split tensors by their lengths, which a trace keeps as
    constants. HTC pools to a size that a trace keeps as a variable, and ONNX needs a constant. Without it: a two-stage
    detector cannot be exported.

    Args:
        suppress (Callable): In place of ``batched_nms``.
        pool (Callable): In place of ``SingleRoIExtractor.forward``.
        align (Callable): In place of ``RoIAlign.forward``.
        average (Callable): In place of ``adaptive_avg_pool2d``.
        count (Callable): In place of ``len``.
    """
    from mmcv.ops import RoIAlign
    from mmdet.models.layers import bbox_nms
    from mmdet.models.roi_heads import SingleRoIExtractor, cascade_roi_head, htc_roi_head, standard_roi_head

    new = [(bbox_nms, 'batched_nms', suppress), (SingleRoIExtractor, 'forward', pool), (RoIAlign, 'forward', align)]
    new += [(htc_roi_head, 'adaptive_avg_pool2d', average)]
    with _replaced([*new, (standard_roi_head, 'len', count), (cascade_roi_head, 'len', count)]):
        yield


@contextmanager
def _replaced(attributes: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """Set attributes, each given by its owner, name and new value, until the block ends."""
    absent = object()
    before = [(owner, name, vars(owner).get(name, absent)) for owner, name, _ in attributes]
    try:
        for owner, name, value in attributes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            if value is absent:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
