"""The layouts of a stage's feature, and how each becomes a map (N, C, H, W) and back.

A layout holds settings and no state of a forward pass.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Grid = tuple[int, int]


class TokenMap:
    """Tokens as the map of their grid, with their prefix tokens beside it.

    In functions of torch it stands for its map, so that a prompt block takes it as it takes a map. Adding a map keeps
    the prefix tokens.

    Args:
        map (Tensor): (N, C, H, W).
        prefix (Tensor): (N, P, C), such as a class token.
        call (tuple): Further arguments and keyword arguments of the blocks, such as rotary positions.
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
    """Features are maps: (N, C, H, W)."""

    def grid(self, args: tuple[Any, ...], embedded: Grid | None) -> Grid | None:
        """(H, W) of a feature's tokens; None where the feature is a map.

        Args:
            args (tuple): What the stage's last module was called with.
            embedded (tuple[int, int], optional): (H, W) of the grid of embedded patches.
        """
        return None

    def to_map(self, feature: Tensor, grid: Grid | None) -> Tensor:
        """Show a stage's feature as a map.

        Args:
            feature (Tensor): What the stage's last module returned.
            grid (tuple[int, int], optional): What :meth:`grid` returned.

        Returns:
            Tensor: (N, C, H, W).
        """
        return feature

    def from_map(self, x: Tensor, feature: Tensor) -> Tensor:
        """Put a map back in the place of ``feature``."""
        return x

    @property
    def last(self) -> 'Maps':
        """The layout of the last stage's feature."""
        return self

    def enter(self, args: tuple[Any, ...], kwargs: dict[str, Any], embedded: Grid | None) -> Feature:
        """The stem's result, given what the host calls the first stage's first module with."""
        return self.to_map(args[0], self.grid(args, embedded))

    def run(self, modules: Sequence[Callable[..., Any]], x: Any) -> Feature:
        """Run a stage's modules one after the other on the feature of the stage before."""
        for module in modules:
            x = module(x)
        return x


class MapsLast(Maps):
    """Features are maps with channels last: (N, H, W, C)."""

    def to_map(self, feature: Tensor, grid: Grid | None) -> Tensor:
        return feature.permute(0, 3, 1, 2)

    def from_map(self, x: Tensor, feature: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)

    def run(self, modules: Sequence[Callable[..., Any]], x: Any) -> Feature:
        for_modules = x.permute(0, 2, 3, 1)
        return self.to_map(super().run(modules, for_modules), None)  # type: ignore[arg-type]


class SizedTokens(Maps):
    """Features are tokens (N, H W, C), and every block is called with their (H, W)."""

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
            if isinstance(tokens, tuple):  # the merging of patches returns the new grid, too
                tokens, grid = tokens
        return self.to_map(tokens, grid)


class PrefixedTokens(Maps):
    """Features are tokens (N, P + H W, C): P prefix tokens, which stay as they are, and a grid.

    Args:
        prefix (int): P.
        embedding (str): Path of the module that embeds the patches.
        size (Callable): Tells (H, W) of the grid from that module, what it was called with and what it returned.
        prefix_only (bool): Whether the backbone returns prefix tokens alone, as classifiers do. What is done to the
            last stage's patches would be lost then, so its mean is done to the prefix tokens. Defaults to False.
    """

    def __init__(
        self,
        prefix: int,
        embedding: str,
        size: Callable[[nn.Module, Any, Any], Grid],
        prefix_only: bool = False,
    ) -> None:
        self.prefix = prefix
        self.prefix_only = prefix_only
        self.embedding = embedding
        self.size = size

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
        return _ToPrefix(self) if self.prefix_only else self

    def enter(self, args: tuple[Any, ...], kwargs: dict[str, Any], embedded: Grid | None) -> Feature:
        return TokenMap(self.to_map(args[0], embedded), args[0][:, : self.prefix], (args[1:], kwargs))

    def run(self, modules: Sequence[Callable[..., Any]], x: Any) -> Feature:
        tokens = self.from_map(x.map, x.prefix)
        args, kwargs = x.call
        for module in modules:
            tokens = module(tokens, *args, **kwargs)
        return TokenMap(self.to_map(tokens, x.map.shape[2:]), tokens[:, : self.prefix], x.call)


class _ToPrefix(Maps):
    """The last stage of a backbone that returns prefix tokens alone."""

    def __init__(self, tokens: PrefixedTokens) -> None:
        self.tokens = tokens

    def grid(self, args: tuple[Any, ...], embedded: Grid | None) -> Grid | None:
        return embedded

    def to_map(self, feature: Tensor, grid: Grid | None) -> Tensor:
        return self.tokens.to_map(feature, grid)

    def from_map(self, x: Tensor, feature: Tensor) -> Tensor:
        whole = self.tokens.from_map(x, feature)
        n = self.tokens.prefix
        added = (whole[:, n:] - feature[:, n:]).mean(1, keepdim=True)
        return torch.cat((whole[:, :n] + added, whole[:, n:]), 1)
