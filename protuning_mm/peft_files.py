"""LoRA files of Hugging Face's PEFT: ``adapter_model.safetensors`` and ``adapter_config.json``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from protuning_mm.backbones import TunedBackbone, tuned_backbones
from protuning_mm.tune_model import tune
from protuning_mm.tunings.lora import LoRATuning
from protuning_mm.weights import CheckpointError

_WEIGHTS, _CONFIG = 'adapter_model.safetensors', 'adapter_config.json'
_PREFIX = 'base_model.model.'
# settings of PEFT that change what is computed, and the values with which it is LoRA as here
_PLAIN = dict(
    bias='none', fan_in_fan_out=False, rank_pattern={}, alpha_pattern={}, layer_replication=None, lora_bias=False,
    alora_invocation_tokens=None, target_parameters=None
)  # fmt: skip
# values of init_lora_weights with which PEFT subtracts the first A and B from the base weights, or quantizes them
_CHANGED_BASE = ('pissa', 'olora', 'corda', 'loftq')


def load_peft(model: nn.Module, folder: str | Path) -> nn.Module:
    """Load a LoRA of PEFT into a network.

    Args:
        model (nn.Module): A network of timm, with its weights, which :func:`~protuning_mm.tune` then tunes; or a model
            that is tuned by a LoRA of the same rank and layers.
        folder (str | Path): The folder that PEFT's ``save_pretrained`` has written.

    Returns:
        nn.Module: The tuned model. If PEFT saved a head (``modules_to_save``) and the model has one, it is loaded.

    Raises:
        CheckpointError: a file is missing or damaged, PEFT's settings are none of plain LoRA, or the tensors do not fit
            the network. The tensors of ``model`` are then unchanged, but it may be tuned.
    """
    folder = Path(folder)
    config, state = _read(folder)
    rank, alpha = config['r'], config['lora_alpha']
    if config.get('use_rslora'):
        alpha *= rank**0.5
    if not tuned_backbones(model):
        targets = [key.removesuffix('.lora_A.weight') for key in state if key.endswith('.lora_A.weight')]
        model = tune(model, dict(type='lora', rank=rank, alpha=alpha, targets=targets))
    _, lora = _find_lora(model)
    if (lora.rank, lora.alpha) != (rank, alpha):
        raise CheckpointError(
            f'{folder} has rank {rank} and alpha {alpha:g}, but the model has a LoRA of rank {lora.rank} and alpha '
            f'{lora.alpha:g}'
        )
    wanted = _tensors(lora)
    head = getattr(model, 'head', None)
    others = [key for key in state if '.lora_' not in key]
    if not isinstance(head, nn.Linear):
        state = {key: tensor for key, tensor in state.items() if key not in others}
    elif others:
        name = others[0].rpartition('.')[0]
        wanted |= {f'{name}.{key}': tensor for key, tensor in head.state_dict().items()}
    _check(wanted, state, folder)
    with torch.no_grad():
        for key, tensor in wanted.items():
            tensor.copy_(state[key])
    return model


def save_peft(model: nn.Module, folder: str | Path) -> None:
    """Save the LoRA of a tuned timm network as files of PEFT, and its linear head with it if there is one.

    ``PeftModel.from_pretrained(network, folder)`` loads them into the timm network.

    Args:
        model (nn.Module): A model of timm tuned by a single LoRA.
        folder (str | Path): Folder to write; existing files of PEFT in it are replaced.

    Raises:
        CheckpointError: the model is not tuned by a single LoRA.
    """
    backbone, lora = _find_lora(model)
    state = {_PREFIX + key: tensor.contiguous() for key, tensor in _tensors(lora).items()}
    head, saved = getattr(model, 'head', None), None
    if isinstance(head, nn.Linear):
        saved = _classifier_name(backbone)
        state |= {f'{_PREFIX}{saved}.{key}': tensor for key, tensor in head.state_dict().items()}
    config = dict(
        peft_type='LORA',
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=sorted(lora.tapped_paths.values()),
        modules_to_save=None if saved is None else [saved],
        bias='none',
        fan_in_fan_out=False,
        inference_mode=True,
        base_model_name_or_path=None,
        task_type=None,
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / _WEIGHTS, metadata=dict(format='pt'))
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + '\n')


def _classifier_name(backbone: TunedBackbone) -> str:
    cfg = getattr(backbone.plain, 'default_cfg', None) or {}
    name = cfg.get('classifier', 'head')
    return name if isinstance(name, str) else name[0]


def _find_lora(model: nn.Module) -> tuple[TunedBackbone, LoRATuning]:
    backbones = list(tuned_backbones(model).values())
    tunings = list(backbones[0].tunings) if len(backbones) == 1 else []
    if len(tunings) != 1 or type(tunings[0]) is not LoRATuning:
        found = ', '.join(tuning.name for tuning in tunings) or f'{len(backbones)} tuned backbones'
        raise CheckpointError(f"PEFT's files hold one LoRA of one network, but the model has {found}")
    return backbones[0], tunings[0]


def _tensors(lora: LoRATuning) -> dict[str, Tensor]:
    """Return PEFT's names and the tensors of a LoRA."""
    assert isinstance(lora.added, nn.ModuleDict)
    found, updates = {}, dict[str, Any](lora.added.items())
    for key, update in updates.items():
        path = lora.tapped_paths[key]
        found[f'{path}.lora_A.weight'], found[f'{path}.lora_B.weight'] = update.a.weight, update.b.weight
    return {key: tensor.detach() for key, tensor in found.items()}


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    missing = [name for name in (_CONFIG, _WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} is no folder of PEFT's: it has no {' and no '.join(missing)}")
    try:
        config = json.loads((folder / _CONFIG).read_text())
        state = load_file(folder / _WEIGHTS)
    except Exception as error:
        raise CheckpointError(f"{folder}: PEFT's files cannot be read: {error}") from None
    if config.get('peft_type') != 'LORA':
        raise CheckpointError(f'{folder} holds {config.get("peft_type")!r}; only LORA can be loaded')
    variants = [key for key in config if key.startswith('use_') and key != 'use_rslora']
    for key in (*_PLAIN, *variants):
        if config.get(key) not in (_PLAIN.get(key), None, {}, False):
            raise CheckpointError(f'{folder}: {key}={config[key]!r} of PEFT is not supported; only plain LoRA is')
    start = str(config.get('init_lora_weights'))
    if start.startswith(_CHANGED_BASE):
        raise CheckpointError(
            f"{folder} was trained with init_lora_weights={start!r}, which changes the network's own weights; save it "
            'from PEFT with path_initial_model_for_weight_conversion, which makes it a plain LoRA'
        )
    return config, {key.removeprefix(_PREFIX): tensor for key, tensor in state.items()}


def _check(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], folder: Path) -> None:
    faults = [f'{key} is missing' for key in wanted if key not in state]
    faults += [f'{key} fits no layer of the model' for key in state if key not in wanted]
    faults += [
        f'{key} has the shape {tuple(state[key].shape)}, not {tuple(tensor.shape)}'
        for key, tensor in wanted.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if faults:
        raise CheckpointError(f'{folder} does not fit the model: {"; ".join(faults[:3])}, {len(faults)} in all')
