"""``tools/model_converters/extract_delta.py`` and ``merge_delta.py``: convert whole checkpoints to deltas and back."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import Tensor, nn

from protuning_mm.backbones import TunedBackbone, tuned_backbones
from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_cfg_options
from protuning_mm.deltas import load_delta_file, load_strictly
from protuning_mm.engine.build_model import build_model
from protuning_mm.engine.config import read_config
from protuning_mm.weights import CheckpointError, FrozenWeightsError, load_checkpoint_file
from protuning_mm.weights.addresses import explain_refusal, read_frozen_sources
from protuning_mm.weights.deltas import RECORD, drop_training_state, make_delta
from protuning_mm.weights.fingerprint import fingerprint
from protuning_mm.weights.hub import find_checkpoint
from protuning_mm.weights.write import write_checkpoint

_EMA = 'module.'
_MODEL = "the config's model"  # for errors


def extract_delta(
    cfg: Config, checkpoint: str, out: str | Path, base: str | None = None, training_state: bool = False
) -> None:
    """Remove the frozen base from a whole checkpoint.

    Args:
        cfg (Config): The config with which the checkpoint was trained.
        checkpoint (str): A whole checkpoint or a delta. If it is a delta, only its training state is removed; with
            ``training_state=True``, nothing is removed.
        out (str | Path): The delta to write, ``.pth`` or ``.safetensors``.
        base (str, optional): Path, URL or address of the base, such as ``torchvision://resnet50``. Defaults to the
            config's ``init_cfg``, then to the base that the checkpoint names.
        training_state (bool): Whether to keep optimizer, schedulers, EMA and everything else that a resumed run needs.
            Defaults to False.

    Raises:
        CheckpointError: a file cannot be read, or does not fit the config's model.
        FrozenWeightsError: frozen tensors of the checkpoint differ from those of the base.
    """
    content = load_checkpoint_file(checkpoint)
    state = content.get('state_dict', content)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f'{checkpoint} has no state_dict of named tensors')
    if RECORD not in state:
        model, backbones = _build_tuned(cfg)
        _load_bases(backbones, base, content)
        bases = {name: fingerprint(each.frozen_tensors()) for name, each in backbones.items()}
        sources = {name: (each.frozen_source, each.frozen_prefix) for name, each in backbones.items()}
        load_strictly(model, state, checkpoint, _MODEL)
        for name, each in backbones.items():
            moved = bases[name].find_changes(fingerprint(each.frozen_tensors()))
            if moved:
                raise FrozenWeightsError(
                    f'{checkpoint} was not trained on {sources[name][0]}: {len(moved)} of {len(each.frozen_keys)} '
                    f'frozen tensors of {name} differ, such as {moved[0]}. If it has another base, pass that with '
                    '--base. If the run trained these tensors, pass the config of that run; this config freezes them.'
                )
            each.frozen_source, each.frozen_prefix = sources[name]
        make_delta(content, backbones, bases)
    write_checkpoint(content if training_state else drop_training_state(content), out)


def merge_delta(cfg: Config, delta: str, out: str | Path, base: str | None = None, fold: bool = False) -> None:
    """Join a delta and its base into a full checkpoint, which still contains the tuning, unless ``fold`` is set.

    Args:
        cfg (Config): The config with which the delta was trained.
        delta (str): The delta.
        out (str | Path): The whole checkpoint to write, ``.pth`` or ``.safetensors``.
        base (str, optional): Path, URL or address of the base, in place of the config's ``init_cfg``. If it does not
            match the delta's fingerprint, the source recorded in the delta is tried.
        fold (bool): Whether to merge the tuning into the backbone's weights, so that the host's plain model computes
            the same outputs; impossible for prompts. Defaults to False.

    Raises:
        CheckpointError: a file cannot be read, the delta does not fit the config's model, or its base is not found.
        TuningError: ``fold`` is set, and the tuning cannot be merged into weights.
    """
    model, backbones = _build_tuned(cfg)
    if base is not None:
        for each in backbones.values():
            each.init_cfg = dict(type='Pretrained', checkpoint=base)
    content = load_delta_file(model, delta, _MODEL)
    whole = model.state_dict()
    if 'ema_state_dict' in content:
        averages = content['ema_state_dict']
        own = {name: tensor for name, tensor in averages.items() if not name.startswith(_EMA)}
        completed = {_EMA + name: averages.get(_EMA + name, tensor) for name, tensor in whole.items()}
        content['ema_state_dict'] = own | completed
    content['state_dict'] = _fold_state(whole, backbones) if fold else whole
    write_checkpoint(drop_training_state(content) if fold or str(out).endswith('.safetensors') else content, out)


def _build_tuned(cfg: Config) -> tuple[nn.Module, dict[str, TunedBackbone]]:
    model = build_model(cfg)
    backbones = tuned_backbones(model)
    if not backbones:
        raise CheckpointError(
            f"the config's {type(model).__name__} has no ProTunedResNet or TunedBackbone, so there is no frozen base"
        )
    return model, backbones


def _load_bases(backbones: Mapping[str, TunedBackbone], base: str | None, content: Mapping[str, Any]) -> None:
    sources = read_frozen_sources(content)
    for name, each in backbones.items():
        cfg = each.init_cfg if isinstance(each.init_cfg, Mapping) and each.init_cfg.get('type') == 'Pretrained' else {}
        source, prefix = (base, None) if base else (cfg.get('checkpoint'), cfg.get('prefix'))
        if source is None:
            source, prefix = sources.get(name, (None, None))
            reason = None if source is None else explain_refusal(source)
            if reason is not None:
                raise CheckpointError(f'the checkpoint names {source!r} as the base of {name}: {reason}. Use --base')
        if source is not None:
            each.fill_from(source, prefix)
        elif each.frozen_source is None:
            raise CheckpointError(f'the base of {name} is not known: give its path, URL or address by --base')


def _fold_state(whole: Mapping[str, Tensor], backbones: Mapping[str, TunedBackbone]) -> dict[str, Tensor]:
    state = dict(whole)
    for name, each in backbones.items():
        lead = f'{name}.' if name else ''
        state = {key: tensor for key, tensor in state.items() if not key.startswith(lead)}
        state |= {lead + key: tensor for key, tensor in each.merge().state_dict().items()}
    return state


def _make_parser(description: str, checkpoint: str, out: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='path of the config that was used for training')
    parser.add_argument('checkpoint', help=f'path of the {checkpoint}')
    parser.add_argument('out', help=f'{out} to write, .pth or .safetensors')
    parser.add_argument(
        '--base',
        help="path, URL or address of the base; defaults to the config's init_cfg, then to the one that the file names",
    )
    add_cfg_options(parser)
    return parser


@command
def main_extract(argv: Sequence[str] | None = None) -> None:
    parser = _make_parser('Remove the frozen base from a whole checkpoint', 'whole checkpoint', 'delta')
    parser.add_argument(
        '--training-state', action='store_true', help='keep the optimizer and everything else that a resumed run needs'
    )
    args = parser.parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    extract_delta(cfg, args.checkpoint, args.out, args.base, args.training_state)
    _print_sizes(args)


@command
def main_merge(argv: Sequence[str] | None = None) -> None:
    parser = _make_parser('Join a delta and its base into a whole checkpoint', 'delta', 'whole checkpoint')
    parser.add_argument(
        '--fold',
        action='store_true',
        help="fold the tuning into the backbone's weights, so that the plain model computes the same",
    )
    args = parser.parse_args(argv)
    merge_delta(read_config(args.config, args.cfg_options), args.checkpoint, args.out, args.base, args.fold)
    _print_sizes(args)


def _print_sizes(args: argparse.Namespace) -> None:
    before, after = (path.stat().st_size / 1e6 for path in (find_checkpoint(args.checkpoint), Path(args.out)))
    print(f'{args.out}: {after:.2f} MB (of {before:.2f} MB)')


if __name__ == '__main__':
    raise SystemExit(
        'error: this module has two commands: tools/model_converters/extract_delta.py removes the base from a whole '
        'checkpoint, tools/model_converters/merge_delta.py joins a delta and its base'
    )
