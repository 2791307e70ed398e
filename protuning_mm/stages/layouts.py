"""The layouts of a stage's feature, and their conversion to a feature map (N, C, H, W) and back.

A layout holds settings, but no state of a forward pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Grid = tuple[int, int]


class TokenMap:
    """Tokens as a feature map of their grid, together with their prefix tokens.

    Functions of torch operate on the feature map, so that a prompt block accepts a TokenMap like any feature map.
    Adding a feature map keeps the prefix tokens.

    Args:
        map (Tensor): (N, C, H, W), the patch tokens.
        prefix (Tensor): (N, P, C), such as a class token.
        call (tuple): Further positional and keyword arguments of the blocks, such as rotary position embeddings.
    """

    def __init__(self, map: Tensor, prefix: Tensor, call: tuple[tuple[Any, ...], dict[str, Any]]) -> None:  # noqa: A002
        self.map = map
        self.prefix = prefix
        self.call = call

    def __add__(self, x: Tensor) -> 'TokenMap':
        return TokenMap(self.map + x, self.prefix, self.call)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'map':
            raise AttributeError(name)
        return getattr(self.map, name)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args = [x.map if isinstance(x, cls) else x for x in args]
        return func(*args, **{key: x.map if isinstance(x, cls) else x for key, x in (kwargs or {}).items()})


Feature = Tensor | TokenMap


class Maps:
    """The layout of feature maps (N, C, H, W)."""

    def grid(self, args: tuple[Any, ...], embedded: Grid | None) -> Grid | None:
        """Return (H, W) of a feature's token grid; None if the feature is a map.

        Args:
            args (tuple): Arguments with which the stage's last module was called.
            embedded (tuple[int, int], optional): (H, W) of the grid of embedded patches.
        """
        return None

    def to_map(self, feature: Tensor, grid: Grid | None) -> Tensor:
        """Convert a stage's feature to a feature map.

        Args:
            feature (Tensor): Output of the stage's last module.
            grid (tuple[int, int], optional): Result of :meth:`grid`.

        Returns:
            Tensor: (N, C, H, W).
        """
        return feature

    def from_map(self, x: Tensor, feature: Tensor) -> Tensor:
        """Convert a feature map (N, C, H, W) to the layout of ``feature``, the feature that it replaces."""
        return x

    @property
    def last(self) -> 'Maps':
        """The layout of the last stage's feature."""
        return self

    def enter(self, args: tuple[Any, ...], kwargs: dict[str, Any], embedded: Grid | None) -> Feature:
        """Return the stem's output, given the arguments with which the host calls the first module of stage 1."""
        return self.to_map(args[0], self.grid(args, embedded))

    def run(self, modules: Sequence[Callable[..., Any]], x: Any) -> Feature:
        """Run a stage's modules in sequence on the feature of the previous stage."""
        for module in modules:
            x = module(x)
        return x


class MapsLast(Maps):
    """The layout of feature maps with channels last, (N, H, W, C)."""

    def to_map(self, feature: Tensor, grid: Grid | None) -> Tensor:
        return feature.permute(0, 3, 1, 2)

    def from_map(self, x: Tensor, feature: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)

    def run(self, modules: Sequence[Callable[..., Any]], x: Any) -> Feature:
        for_modules = x.permute(0, 2, 3, 1)
        return self.to_map(super().run(modules, for_modules), None)  # type: ignore[arg-type]


class SizedTokens(Maps):
    """The layout of tokens (N, H W, C) whose blocks are called with the tokens and (H, W)."""

    def grid(self, args: tuple[Any, ...], embedded: Grid | None) -> Grid | None:
        height, width = args[1]
        return height, width

    def to_map(self, feature: Tensor, grid: Grid | None) -> Tensor:
        assert grid is not None
        return feature.transpose(1, 2).reshape(len(feature), -1, *grid)

    def from_map(self, x: Tensor, feature: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)

    def run(self, modules: Sequence[Callable[..., Any]], x: Any) -> Feature:
        grid, tokens = x.shape[2:], x.flatten(2).transpose(1, 2)
        for module in modules:
            tokens = module(tokens, grid)
            if isinstance(tokens, tuple):  # patch merging also returns the new grid
                tokens, grid = tokens
        return self.to_map(tokens, grid)


@dataclass(frozen=True)
class EmbeddedTokens(SizedTokens):
    """The layout of tokens (N, H W, C) whose stages, except the first, begin with a patch embedding of a feature map.

    The embedding returns the tokens and (H, W), or H and W; the blocks are called with what it returns. Norms take the
    tokens alone.

    Args:
        embedding (type): Class of the patch embeddings.
        two_sizes (bool): Whether the blocks take H and W as two arguments. Defaults to False.
    """

    embedding: type[nn.Module]
    two_sizes: bool = False

    def grid(self, args: tuple[Any, ...], embedded: Grid | None) -> Grid | None:
        return _read_size(args[1:])

    def run(self, modules: Sequence[Callable[..., Any]], x: Any) -> Feature:
        grid: Any = tuple(x.shape[2:])
        tokens, size = x.flatten(2).transpose(1, 2), grid if self.two_sizes else (grid,)
        for module in modules:
            if isinstance(module, self.embedding):
                tokens, *size = module(self.to_map(tokens, _read_size(size)))
            elif isinstance(module, nn.LayerNorm | nn.Identity):
                tokens = module(tokens)
            else:
                tokens = module(tokens, *size)
        return self.to_map(tokens, _read_size(size))


def _read_size(args: Sequence[Any]) -> Grid:
    """Return (H, W), given as one argument or as two."""
    height, width = args[0] if isinstance(args[0], Sequence) else args[:2]
    return int(height), int(width)


@dataclass(frozen=True)
class PrefixedTokens(Maps):
    """The layout of tokens (N, P + H W, C): P prefix tokens, which stay unchanged, and a grid of patch tokens.

    Args:
        prefix (int): Number P of prefix tokens.
        embedding (str): Path of the module that embeds the patches.
        size (Callable): Returns (H, W) of the grid, given the embedding module, its arguments and its output.
        prefix_only (bool): Whether the backbone returns only prefix tokens, as classifiers do. A change of the last
            stage's patch tokens would then be lost, so its mean over the patches is added to the prefix tokens.
            Defaults to False.
    """

    prefix: int
    embedding: str
    size: Callable[[nn.Module, Any, Any], Grid]
    prefix_only: bool = False

    def grid(self, args: tuple[Any, ...], embedded: Grid | None) -> Grid | None:
        return embedded

    def to_map(self, feature: Tensor, grid: Grid | None) -> Tensor:
        assert grid is not None
        return feature[:, self.prefix :].transpose(1, 2).reshape(len(feature), -1, *grid)

    def from_map(self, x: Tensor, feature: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return tokens if self.prefix == 0 else torch.cat((feature[:, : self.prefix], tokens), 1)

    @property
    def last(self) -> Maps:
        return _ToPrefix(self.prefix, self.embedding, self.size) if self.prefix_only else self

    def enter(self, args: tuple[Any, ...], kwargs: dict[str, Any], embedded: Grid | None) -> Feature:
        return TokenMap(self.to_map(args[0], embedded), args[0][:, : self.prefix], (args[1:], kwargs))

    def run(self, modules: Sequence[Callable[..., Any]], x: Any) -> Feature:
        tokens = self.from_map(x.map, x.prefix)
        args, kwargs = x.call
        for module in modules:
            tokens = module(tokens, *args, **kwargs)
        return TokenMap(self.to_map(tokens, x.map.shape[2:]), tokens[:, : self.prefix], x.call)


class _ToPrefix(PrefixedTokens):
    """The layout of the last stage of a backbone that returns only prefix tokens."""

    def from_map(self, x: Tensor, feature: Tensor) -> Tensor:
        whole, n = super().from_map(x, feature), self.prefix
        added = (whole[:, n:] - feature[:, n:]).mean(1, keepdim=True)
        return torch.cat((whole[:, :n] + added, whole[:, n:]), 1)
