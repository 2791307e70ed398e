"""Checks of settings that name a metric: best checkpoint, early stopping, learning rate reduction on a plateau."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from mmengine.hooks import CheckpointHook

from protuning_mm.engine.evaluator_trial import Trial

_VAL_LOSS = 'val_loss'  # of ValLossHook


def unknown_metrics(cfg: Any, trial: Trial, evaluator: str) -> Iterator[tuple[str, str, str]]:
    """Find settings that name a metric which the evaluator does not compute, or whose rule is unknown.

    Args:
        cfg (Config): Config of the run.
        trial (Trial): Trial run of the validation's evaluator.
        evaluator (str): Config key of the evaluator.

    Yields:
        tuple: Config key of the setting, the problem, and the remedy.
    """
    if not trial.metrics:
        return
    by_hooks = {_VAL_LOSS} if any(_kind(hook).endswith('ValLossHook') for hook in _hooks(cfg)) else set()
    for key, name, place in _monitored(cfg):
        if name == 'auto':
            yield from _without_a_rule(key, place, trial.metrics[0]) if not trial.untried else ()
            continue
        if name in trial.metrics or name in by_hooks or name.startswith(trial.open_ended):
            continue
        # prefer a metric that differs only by its prefix
        near = [each for each in trial.metrics if each.endswith(f'/{name}')]
        near = near or get_close_matches(name, trial.metrics, 1, 0.5)
        listed = ', '.join(trial.metrics[:8]) + (', …' if len(trial.metrics) > 8 else '')
        yield (
            key,
            f'{name!r} is no metric that {evaluator} computes: {listed}',
            f'set {key}={near[0]!r}' if near else f'set {key} to one of these',
        )


def _hooks(cfg: Any) -> list[Any]:
    custom = cfg.get('custom_hooks') or ()
    return [custom] if isinstance(custom, dict) else list(custom)


def _kind(hook: Any) -> str:
    return str(hook.get('type')) if isinstance(hook, dict) else type(hook).__name__


def _without_a_rule(key: str, place: dict[str, Any], metric: str) -> Iterator[tuple[str, str, str]]:
    """Check that mmengine can infer from a metric's name whether a greater value is better."""
    settings = {name: place[name] for name in ('rule', 'greater_keys', 'less_keys') if place.get(name)}
    try:
        CheckpointHook(save_best=metric, **settings)
    except ValueError:
        found = f"'auto' selects {metric}, and its name does not tell whether a greater value is better"
        yield key, found, f"set {key.removesuffix('save_best')}rule='greater', or 'less'"


def _monitored(cfg: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield config key and metric of every setting that names a metric, and the config of its hook or scheduler."""
    places = {f'default_hooks.{name}': hook for name, hook in (cfg.get('default_hooks') or {}).items()}
    for key in ('custom_hooks', 'param_scheduler'):
        value = cfg.get(key) or ()
        places |= {key: value} if isinstance(value, dict) else {f'{key}.{i}': each for i, each in enumerate(value)}
    for key, place in places.items():
        if not isinstance(place, dict):
            continue
        kind = str(place.get('type'))
        settings = dict(save_best=place.get('save_best'))
        if kind.endswith('EarlyStoppingHook') or 'ReduceOnPlateau' in kind:
            settings['monitor'] = place.get('monitor', 'loss')  # no evaluator computes 'loss', a scheduler's default
        for setting, value in settings.items():
            names = value if isinstance(value, list | tuple) else [value]
            yield from ((f'{key}.{setting}', name, place) for name in names if isinstance(name, str))
