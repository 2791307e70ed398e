"""Flags that several commands share, and argparse types that check the values of flags."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.config import DictAction


def add_cfg_options(parser: argparse.ArgumentParser, text: str = 'override settings of the config') -> None:
    """Add ``--cfg-options KEY=VALUE …``, as in the hosts' tools."""
    parser.add_argument('--cfg-options', nargs='+', action=_Options, metavar='KEY=VALUE', help=text)


def add_prediction_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """Add the arguments of commands that predict on images: config, checkpoint, images, output folder and device.

    Args:
        parser (ArgumentParser): The command's parser.
        out (str): Help text of ``--out``.
    """
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path of the whole checkpoint or delta')
    parser.add_argument('images', nargs='+', help='images or folders of images')
    parser.add_argument('--out', required=True, help=out)
    add_device(parser)
    add_cfg_options(parser)


def add_device(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add ``--device``; it defaults to a GPU if there is one, unless ``default`` is given."""
    text = f"device, such as 'cuda:0' or 'cpu'; defaults to {default or 'a GPU if there is one'}"
    parser.add_argument('--device', type=device, default=default or best_device(), help=text)


def best_device() -> str:
    """Return the first GPU, or the CPU if torch finds no GPU."""
    return 'cuda:0' if torch.cuda.is_available() else 'cpu'


def device(written: str) -> str:
    """Check the name of a device; an argparse type."""
    try:
        torch.empty(0, device=written)
    except (AssertionError, RuntimeError) as error:  # torch without CUDA raises an AssertionError
        raise argparse.ArgumentTypeError(
            f'{written!r} is not a device of this machine: {str(error).splitlines()[0]}'
        ) from None
    return written


def at_least(least: int) -> Callable[[str], int]:
    """Return an argparse type: a whole number that is at least ``least``."""

    def number(written: str) -> int:
        value = int(written) if written.strip().lstrip('+-').isdecimal() else None
        if value is None or value < least:
            raise argparse.ArgumentTypeError(f'{written!r} must be a whole number, {least} or more')
        return value

    return number


def from_0_to_1(written: str) -> float:
    """Convert a fraction or a score; an argparse type."""
    try:
        value = float(written)
    except ValueError:
        value = float('nan')
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{written!r} must be a number from 0 to 1')
    return value


class _Options(DictAction):
    """mmengine's ``KEY=VALUE`` pairs, with an argparse error instead of a traceback for anything else."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: str | Sequence[Any] | None, option: Any = None
    ) -> None:
        for written in values or ():
            try:
                super().__call__(parser, namespace, [written], option)
            except (AssertionError, ValueError) as error:
                reason = f' ({error})' if isinstance(error, AssertionError) else ''
                parser.error(f'argument {option}: {written!r} must be KEY=VALUE{reason}')
