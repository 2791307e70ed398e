"""``tools/model_converters/inspect_delta.py``: show what a delta contains and which base it needs."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from protuning_mm.cli.command import command
from protuning_mm.weights import CheckpointError, safe_torch_load
from protuning_mm.weights.checksum import verify_checksum
from protuning_mm.weights.deltas import RECORD, DeltaRecord
from protuning_mm.weights.hub import find_checkpoint


def inspect_delta(path: str) -> dict[str, Any]:
    """Read and verify a delta, and list its content.

    Args:
        path (str): A ``.pth`` or ``.safetensors`` file, or an address that begins with ``hf://``.

    Returns:
        dict: ``file``, ``bytes``, ``has_checksum``, ``version``, ``bases`` (source, prefix, fingerprint, number of
        frozen tensors and tuning of each backbone), ``dataset_meta``, ``epoch``, ``iter``, and ``contents``: part,
        tensors and bytes of each.

    Raises:
        CheckpointError: the file is missing or damaged, or is not a delta.
    """
    file = find_checkpoint(path)
    content = safe_torch_load(file, 'cpu')  # mmengine's loader prints to standard output
    state = content.get('state_dict', content) if isinstance(content, dict) else {}
    if RECORD not in state:
        raise CheckpointError(f'{path} is not a delta: it has no record of its base. Is it a whole checkpoint?')
    record = DeltaRecord.from_tensor(state[RECORD])
    meta = content.get('meta', {})
    return dict(
        file=str(path),
        bytes=file.stat().st_size,
        has_checksum=verify_checksum(file),
        version=record.version,
        bases={
            name: dict(
                source=base.source,
                prefix=base.prefix,
                fingerprint=base.fingerprint.total,
                tensors=len(base.frozen),
                tuning=base.tuning,
            )
            for name, base in record.bases.items()
        },
        dataset_meta=dict(record.dataset_meta),
        epoch=meta.get('epoch'),
        iter=meta.get('iter'),
        contents=_contents(content, state),
    )


def _contents(content: Mapping[str, Any], state: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    parts: dict[str, list[Tensor]] = {}
    for name, tensor in state.items():
        keys = name.split('.')
        part = 'record' if name == RECORD else '.'.join(keys[: 2 if keys[0] in ('backbone', 'roi_head') else 1])
        parts.setdefault(part, []).append(tensor)
    if content is not state:
        parts |= {f'({key})': _tensors(value) for key, value in content.items() if key not in ('state_dict', 'meta')}
    return [
        dict(part=part, tensors=len(found), bytes=sum(tensor.nbytes for tensor in found))
        for part, found in parts.items()
        if found
    ]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    values = value.values() if isinstance(value, Mapping) else value
    return [tensor for item in values for tensor in _tensors(item)] if isinstance(value, Mapping | list | tuple) else []


def format_text(info: Mapping[str, Any]) -> str:
    """Format what :func:`inspect_delta` returns for a terminal."""
    checksum = 'checksum verified' if info['has_checksum'] else 'no checksum (rewritten by another program)'
    lines = [f'{info["file"]}: {_in_megabytes(info["bytes"])}, {checksum}, written by protuning_mm {info["version"]}']
    for name, base in info['bases'].items():
        tuning = ' + '.join(
            f'{t["type"]}({", ".join(f"{k}={v!r}" for k, v in t.items() if k != "type")})' for t in base['tuning']
        )
        lines += [
            f'base of {name or "the backbone"}: {base["source"]}'
            + (f' (prefix {base["prefix"]})' if base['prefix'] else ''),
            f'  {base["tensors"]} frozen tensors, fingerprint {base["fingerprint"]}',
            f'  tuning: {tuning}',
        ]
    classes = [str(c) for c in info['dataset_meta'].get('classes') or ()]
    if classes:
        lines.append(f'{len(classes)} classes: {", ".join(classes[:10])}{", …" if len(classes) > 10 else ""}')
    if info['iter'] is not None:
        lines.append(f'epoch {info["epoch"]}, iteration {info["iter"]}')
    rows = [(part['part'], part['tensors'], part['bytes']) for part in info['contents']]
    rows.append(('total', sum(tensors for _, tensors, _ in rows), sum(size for _, _, size in rows)))
    width = max(len(part) for part, _, _ in rows)
    lines += ['', f'{"part":<{width}}  tensors       size']
    lines += [f'{part:<{width}}  {tensors:>7}  {_in_megabytes(size):>9}' for part, tensors, size in rows]
    return '\n'.join(lines)


def _in_megabytes(size: int) -> str:
    return f'{size / 1e6:.2f} MB'


@command
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Show what a delta contains, its size, and which base it needs')
    parser.add_argument('delta', help='path of the delta, or hf://owner/name')
    parser.add_argument('--json', action='store_true', help='print JSON instead of text')
    args = parser.parse_args(argv)
    info = inspect_delta(args.delta)
    print(json.dumps(info, indent=2) if args.json else format_text(info))


if __name__ == '__main__':
    main()
