"""Flags that several commands have, and types of flags that refuse what cannot work."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.config import DictAction


def add_cfg_options(parser: argparse.ArgumentParser, what: str = 'override settings of the config') -> None:
    """Add ``--cfg-options KEY=VALUE …``, as the hosts' tools have it."""
    parser.add_argument('--cfg-options', nargs='+', action=_Options, metavar='KEY=VALUE', help=what)


def add_device(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add ``--device``; without a default it is a GPU where there is one."""
    told = f"such as 'cuda:0' or 'cpu'; {f'defaults to {default}' if default else 'a GPU where there is one'}"
    parser.add_argument('--device', type=device, default=default or best_device(), help=told)


def best_device() -> str:
    """The first GPU where torch sees one, else the CPU."""
    return 'cuda:0' if torch.cuda.is_available() else 'cpu'


def device(written: str) -> str:
    """Check a device's name; a type for argparse."""
    try:
        torch.empty(0, device=written)
    except (AssertionError, RuntimeError) as error:  # a torch without CUDA asserts
        raise argparse.ArgumentTypeError(f'{written!r} is no device here: {str(error).splitlines()[0]}') from None
    return written


def at_least(least: int) -> Callable[[str], int]:
    """Make a type for argparse: a whole number that is not below ``least``."""

    def number(written: str) -> int:
        value = int(written) if written.strip().lstrip('+-').isdecimal() else None
        if value is None or value < least:
            raise argparse.ArgumentTypeError(f'{written!r} must be a whole number, {least} or more')
        return value

    return number


def from_0_to_1(written: str) -> float:
    """Read a share or a score; a type for argparse."""
    try:
        value = float(written)
    except ValueError:
        value = float('nan')
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{written!r} must be a number from 0 to 1')
    return value


class _Options(DictAction):
    """mmengine's ``KEY=VALUE`` pairs; what is no such pair is an error of the flag, not a traceback."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: str | Sequence[Any] | None, option: Any = None
    ) -> None:
        for written in values or ():
            try:
                super().__call__(parser, namespace, [written], option)
            except (AssertionError, ValueError) as error:
                why = f' ({error})' if isinstance(error, AssertionError) else ''
                parser.error(f'argument {option}: {written!r} must be KEY=VALUE{why}')
