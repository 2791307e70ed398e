"""The card of a delta on the Hub: the README.md of its repository."""

from collections.abc import Mapping
from typing import Any

_USE = """\
# {title}

A task for a frozen backbone, trained with [Pro-Tuning](https://arxiv.org/abs/2207.14381) and its relatives in
`protuning_mm`. `delta.safetensors` ({size:.2f} MB) holds the trained tensors alone. The frozen base is read from where
it was published, and is verified by its fingerprint.

```bash
protuning pull {repo}
protuning predict {config} hf://{repo} IMAGE --out seen
protuning serve --tasks NAME={config},hf://{repo}
```
"""


def write_card(
    repo: str, info: Mapping[str, Any], metrics: Mapping[str, float], license_name: str | None, has_config: bool
) -> str:
    """Write the card.

    Args:
        repo (str): ``owner/name``.
        info (Mapping): What :func:`~protuning_mm.cli.inspect_delta.inspect_delta` returns for the delta.
        metrics (Mapping[str, float]): Metrics by name.
        license_name (str, optional): The Hub's identifier of the licence, such as ``'apache-2.0'``.
        has_config (bool): Whether the repository holds ``config.py``.

    Returns:
        str: Markdown with the Hub's metadata at the beginning.
    """
    from huggingface_hub import ModelCardData

    tunings = sorted({each['type'] for base in info['bases'].values() for each in base['tuning']})
    data = ModelCardData(
        license=license_name,
        library_name='protuning_mm',
        tags=['parameter-efficient-tuning', *tunings],
        metrics=sorted(metrics) or None,
    )
    config = 'config.py' if has_config else 'CONFIG'
    text = _USE.format(title=repo.partition('/')[2], repo=repo, size=info['bytes'] / 1e6, config=config)
    lines = ['---', data.to_yaml(), '---', text, *_base_lines(info['bases'])]
    classes = [str(each) for each in info['dataset_meta'].get('classes') or ()]
    lines += ['', f'## Classes ({len(classes)})', '', ', '.join(classes) or 'The delta does not name its classes.']
    if metrics:
        lines += ['', '## Metrics', '', '| metric | value |', '|---|---:|']
        lines += [f'| {name} | {value:g} |' for name, value in metrics.items()]
    if license_name is None:
        lines += ['', 'The author has named no licence.']
    return '\n'.join(lines) + '\n'


def _base_lines(bases: Mapping[str, Any]) -> list[str]:
    lines = ['## Base', '', '| | source | fingerprint | tensors | tuning |', '|---|---|---|---:|---|']
    for name, base in bases.items():
        tuning = ' + '.join(
            f'`{each["type"]}` ({", ".join(f"{key}={value!r}" for key, value in each.items() if key != "type")})'
            for each in base['tuning']
        )
        where = f'{base["source"]}' + (f', prefix {base["prefix"]}' if base['prefix'] else '')
        lines.append(f'| {name or "backbone"} | {where} | `{base["fingerprint"]}` | {base["tensors"]} | {tuning} |')
    return lines
