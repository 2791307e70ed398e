"""Modules that compute a replacement for a frozen module's output y from its input x and y.

Each returns y unchanged at initialization, unless its docstring says otherwise.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def bottleneck_width(channels: int, reduction: int) -> int:
    """Return ``channels // reduction``, but at least 1."""
    return max(1, channels // reduction)


def _geometry(conv: nn.Conv2d) -> dict[str, Any]:
    """Return the arguments that give a convolution the window and the output size of another one."""
    return {name: getattr(conv, name) for name in ('kernel_size', 'stride', 'padding', 'dilation')}


class Adapter(nn.Module):
    """y + up(act(down(y))): a bottleneck after a branch (Houlsby et al., ICML 2019).

    Args:
        channels (int): Channels C of the last dimension.
        hidden (int): Width of the bottleneck.

    Shape:
        - x: anything
        - y: (…, C)
        - Output: (…, C)
    """

    act: nn.Module

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Linear(channels, hidden)
        self.act = nn.GELU()
        self.up = nn.Linear(hidden, channels)
        self.init_weights()

    def init_weights(self) -> None:
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.up(self.act(self.down(y)))


class ParallelAdapter(Adapter):
    """y + s up(relu(down(x))): a bottleneck beside a branch (AdaptFormer, Chen et al., NeurIPS 2022).

    Args:
        channels (int): Channels C of the last dimension of x and y.
        hidden (int): Width of the bottleneck.
        scale (float): s. Defaults to 0.1.
    """

    def __init__(self, channels: int, hidden: int, scale: float = 0.1) -> None:
        super().__init__(channels, hidden)
        self.act = nn.ReLU()
        self.scale = scale

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.scale * self.up(self.act(self.down(x)))


def pad_for(x: Tensor, y: Tensor, conv: nn.Conv2d) -> Tensor:
    """Pad x with zeros so that ``conv`` maps it to the height and width of y.

    Layers such as timm's ``Conv2dSame`` pad their input in ``forward``, as TensorFlow does, beyond their ``padding``:
    half of the missing rows and columns first, the rest last. An ordinary convolution needs no further padding.

    Args:
        x (Tensor): (N, C_in, H, W), the input of the frozen convolution.
        y (Tensor): (N, C_out, H', W'), its output.
        conv (nn.Conv2d): A convolution with the frozen one's kernel size, stride, padding and dilation.
    """
    if isinstance(conv.padding, str):
        return x
    missing = [
        max((out - 1) * stride + (size - 1) * dilation + 1 - have - 2 * padding, 0)
        for out, have, size, stride, dilation, padding in zip(
            y.shape[2:], x.shape[2:], conv.kernel_size, conv.stride, conv.dilation, conv.padding, strict=True
        )
    ]
    if not any(missing):
        return x
    rows, columns = missing
    return functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


class ConvAdapter(nn.Module):
    """y + α up(act(down(x))) beside a convolution (Conv-Adapter, Chen et al., 2022).

    ``down`` copies kernel size, stride, padding and dilation of the convolution; it has ``hidden`` groups if ``hidden``
    divides the input channels, else one. ``up`` is 1x1. α is learned, one value per channel. Differs from the paper:
    ``up`` starts at zero.

    Args:
        conv (nn.Conv2d): The frozen convolution, which maps x to y.
        hidden (int): Width of the bottleneck.

    Shape:
        - x: (N, C_in, H, W)
        - y: (N, C_out, H', W')
        - Output: (N, C_out, H', W')
    """

    def __init__(self, conv: nn.Conv2d, hidden: int) -> None:
        super().__init__()
        groups = hidden if conv.in_channels % hidden == 0 else 1
        self.down = nn.Conv2d(conv.in_channels, hidden, groups=groups, **_geometry(conv))
        self.act = nn.ReLU()
        self.up = nn.Conv2d(hidden, conv.out_channels, 1)
        self.scale = nn.Parameter(torch.ones(conv.out_channels, 1, 1))
        self.init_weights()

    def init_weights(self) -> None:
        nn.init.kaiming_normal_(self.down.weight, mode='fan_in', nonlinearity='relu')
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)  # type: ignore[arg-type]
        nn.init.ones_(self.scale)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.scale * self.up(self.act(self.down(pad_for(x, y, self.down))))


class LowRank(nn.Module):
    """y + s B(A(x)): a low-rank update of a linear layer or a convolution (LoRA, Hu et al., ICLR 2022).

    For a convolution, A copies its kernel size and B is 1x1, so that the update is a convolution of the same shape.
    Grouped convolutions get an update of rank r in each group.

    Args:
        layer (nn.Linear | nn.Conv2d): The frozen layer, which maps x to y.
        rank (int): r.
        scale (float): s.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.a: Any
        self.b: Any
        if isinstance(layer, nn.Conv2d):
            groups = layer.groups
            size = dict(**_geometry(layer), padding_mode=layer.padding_mode)
            self.a = nn.Conv2d(layer.in_channels, rank * groups, groups=groups, bias=False, **size)
            self.b = nn.Conv2d(rank * groups, layer.out_channels, 1, groups=groups, bias=False)
        else:
            self.a = nn.Linear(layer.in_features, rank, bias=False)
            self.b = nn.Linear(rank, layer.out_features, bias=False)
        self.init_weights()

    def init_weights(self) -> None:
        nn.init.kaiming_uniform_(self.a.weight, a=5**0.5)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if isinstance(self.a, nn.Conv2d):
            x = pad_for(x, y, self.a)
        return y + self.scale * self.b(self.a(x))

    def delta(self) -> Tensor:
        """Return the update of the layer's weight, in the shape of the weight."""
        a: Tensor = self.a.weight
        b: Tensor = self.b.weight
        if not isinstance(self.a, nn.Conv2d):
            return self.scale * (b @ a)
        groups: int = self.a.groups
        rank, out = a.shape[0] // groups, b.shape[0]
        update = b.reshape(groups, out // groups, rank) @ a.reshape(groups, rank, -1)
        return self.scale * update.reshape(out, *a.shape[1:])

    def merged(self, weight: Tensor) -> Tensor:
        """Return the weight with which the layer alone computes the updated output."""
        return weight + self.delta()


class DecomposedLowRank(LowRank):
    """g ‖W‖ / ‖W + s B A‖ (y − b + s B(A(x))) + b: a low-rank update with a trained magnitude (DoRA, Liu et al., 2024).

    W and b are the frozen layer's weight and bias; the norm is that of an output channel, and a constant for the
    gradient. g is learned, one value per output channel.

    Args:
        layer (nn.Linear | nn.Conv2d): The frozen layer, which maps x to y.
        rank (int): r.
        scale (float): s.
    """

    layer: Any

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, scale: float) -> None:
        super().__init__(layer, rank, scale)
        object.__setattr__(self, 'layer', layer)  # not a child: it belongs to the backbone
        self.magnitude = nn.Parameter(torch.ones(len(layer.weight)))

    def init_weights(self) -> None:
        super().init_weights()
        if hasattr(self, 'magnitude'):
            nn.init.ones_(self.magnitude)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        shape = (-1, 1, 1) if isinstance(self.a, nn.Conv2d) else (-1,)
        bias = 0 if self.layer.bias is None else self.layer.bias.reshape(shape)
        return self._factor(self.layer.weight).reshape(shape) * (super().forward(x, y) - bias) + bias

    def merged(self, weight: Tensor) -> Tensor:
        return self._factor(weight).reshape(-1, *[1] * (weight.dim() - 1)) * super().merged(weight)

    def _factor(self, weight: Tensor) -> Tensor:
        with torch.no_grad():
            before, after = (w.flatten(1).norm(dim=1) for w in (weight, weight + self.delta()))
            ratio = torch.where(after > 0, before / after, 1.0)
        return self.magnitude * ratio


class ScaleShift(nn.Module):
    """γ y + β with one γ and β per channel (SSF, Lian et al., NeurIPS 2022).

    Args:
        channels (int): Number of channels of y.
        dim (int): Channel dimension of y: 1 for (N, C, H, W), -1 for (…, C).
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        shape = (channels, 1, 1) if dim == 1 else (channels,)
        self.scale = nn.Parameter(torch.ones(shape))
        self.shift = nn.Parameter(torch.zeros(shape))

    def init_weights(self) -> None:
        nn.init.ones_(self.scale)
        nn.init.zeros_(self.shift)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y * self.scale + self.shift


class ChannelFactors(nn.Module):
    """l ⊙ y with one factor per channel, after the first ``skipped`` channels ((IA)³, Liu et al., NeurIPS 2022).

    Args:
        channels (int): Number of factors.
        skipped (int): Number of channels before them that stay unchanged. Defaults to 0.

    Shape:
        - x: anything
        - y: (…, skipped + channels)
        - Output: as y
    """

    def __init__(self, channels: int, skipped: int = 0) -> None:
        super().__init__()
        self.skipped = skipped
        self.factors = nn.Parameter(torch.ones(channels))

    def init_weights(self) -> None:
        nn.init.ones_(self.factors)

    def whole(self) -> Tensor:
        """Return a factor for each channel; those of the skipped channels are 1."""
        return torch.cat((self.factors.new_ones(self.skipped), self.factors)) if self.skipped else self.factors

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y * self.whole()
