"""The text of a config inside a checkpoint, which the hosts' inferencers run as Python.

mmengine saves every run's config as text, and an inferencer that is given a checkpoint and no config executes it. What
mmengine writes is plain: names, ``dict(…)``, lists, numbers and strings. Text that is more than that is not kept.
"""

import ast
from typing import Any

# what a config may import by its `custom_imports`
_LIBRARIES = ('protuning_mm', 'mmdet', 'mmseg', 'mmpretrain', 'mmcv', 'mmengine', 'timm')


def is_plain(text: Any) -> bool:
    """Whether a config's text is data alone: no file is read, nothing called, and known libraries alone imported."""
    if not isinstance(text, str):
        return False
    try:
        body = ast.parse(text).body
        values = {name: _value(node) for name, node in (_assignment(statement) for statement in body)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    imports = values.get('custom_imports') or {}
    named = imports.get('imports', []) if isinstance(imports, dict) else None
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, list | tuple) or not all(isinstance(n, str) for n in named):
        return False
    return '_base_' not in values and all(name.split('.')[0] in _LIBRARIES for name in named)


def _assignment(statement: ast.stmt) -> tuple[str, ast.expr]:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
        if isinstance(target, ast.Name):
            return target.id, statement.value
    raise ValueError('no assignment to a name')


def _value(node: ast.expr) -> Any:
    """A literal, where ``dict(a=…)`` is one too.

    Raises:
        ValueError: it is none.
    """
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or node.args:
            raise ValueError('a call')
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise ValueError('** in a dict')
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_value, node.values)))
    return ast.literal_eval(node)
