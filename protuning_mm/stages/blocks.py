"""The blocks of a stage, found by the layers that modules contain."""

from torch import nn

from protuning_mm.stages.structure import Block

_CONTAINERS = nn.Sequential | nn.ModuleList


def paths_of_blocks(plain: nn.Module, path: str) -> list[str]:
    """Return the paths of a module's blocks: the outermost modules in its containers that consist of several layers.

    A module whose only other layers are norms and down-sampling may hold its blocks in ``blocks``.
    """
    module = plain.get_submodule(path)
    children = {name: child for name, child in module.named_children() if _has_layer(child)}
    others = [
        name for name in children if name != 'blocks' and not any(word in name for word in ('downsample', 'norm'))
    ]
    if 'blocks' in children and not others:
        inner = ['blocks']
    elif isinstance(module, _CONTAINERS) and any(any(child.children()) for child in children.values()):
        inner = list(children)
    else:
        return [path] if _has_layer(module) else []
    return [block for name in inner for block in paths_of_blocks(plain, f'{path}.{name}')]


def _has_layer(module: nn.Module) -> bool:
    return any(isinstance(part, nn.Conv2d | nn.Linear) for part in module.modules())


def read_block(plain: nn.Module, path: str, pointwise: bool = False, branches: bool = True) -> Block:
    """Read a block: its attention and MLP branches, or its last spatial convolution.

    Args:
        plain (nn.Module): The backbone.
        path (str): The block's path.
        pointwise (bool): Whether to take the last convolution of a block in which none is spatial, such as the 1 × 1
            layer before a classifier. Defaults to False.
        branches (bool): Whether the block's ``attn`` and ``mlp``, if it has them, return channels last. Defaults to
            True.
    """
    block = plain.get_submodule(path)
    if branches and hasattr(block, 'attn') and hasattr(block, 'mlp'):
        return Block(path, attention=f'{path}.attn', mlp=f'{path}.mlp')
    convs = [
        (name, max(module.kernel_size) > 1)
        for name, module in block.named_modules()
        if isinstance(module, nn.Conv2d) and 'downsample' not in name
    ]
    spatial = [name for name, is_spatial in convs if is_spatial] or [name for name, _ in convs if pointwise]
    return Block(path, conv=f'{path}.{spatial[-1]}'.rstrip('.') if spatial else None)
