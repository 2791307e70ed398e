"""Runs with ``save_best`` that are killed at one moment each, and resumed: do their files end as one run's files end?

Run as ``python -m tests.test_engine.killed_and_resumed OUT WEIGHTS FIRST STEP HOOK LOOP [LAST]``: LOOP is ``epoch`` or
``iter``. Prints a line for each moment: what was under way, and ``same`` or what is not. A moment is one of
:mod:`tests.test_engine.killed_run`, a validation's batch or an optimizer's step.
"""

import io
import os
import sys
from builtins import __dict__ as builtins
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from torch import Tensor

from tests.test_engine.killed_run import Moments
from tests.tiny import TinyClassifier, runner, tuned_resnet

NEVER = 10**6


class Scored(TinyClassifier):
    """Predicts its logits, for a score that depends on the weights alone."""

    def forward(self, inputs: Tensor, label: Tensor, mode: str = 'tensor') -> Any:
        logits = super().forward(inputs, label, mode)
        return list(logits) if mode == 'predict' else logits


class Erratic(BaseMetric):
    """A score that rises and falls from one validation to the next."""

    default_prefix = 'erratic'

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [float(each.double().sum()) for each in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return dict(score=(1e3 * sum(results)) % 1)


def train(work_dir: Path, weights: str, moment: int, hook: str, loop: str, resume: bool) -> None:
    moments = Moments(moment, work_dir.with_suffix('.moment'))
    for name in ('fsync', 'replace', 'remove'):
        moments.around(os, name)
    moments.around(torch.optim.SGD, 'step')
    moments.around(Erratic, 'process')
    io.open = builtins['open'] = moments.open  # type: ignore[assignment]
    by_epoch = loop == 'epoch'
    torch.manual_seed(0)
    run = runner(
        Scored(tuned_resnet(weights)),
        work_dir,
        resume=resume,
        randomness=dict(seed=3),
        train_cfg=dict(by_epoch=True, max_epochs=5) if by_epoch else dict(by_epoch=False, max_iters=10, val_interval=2),
        val_evaluator=Evaluator(Erratic()),
        param_scheduler=[dict(type='ReduceOnPlateauLR', monitor='erratic/score', rule='greater', patience=1)],
        default_hooks=dict(
            checkpoint=dict(
                type=f'protuning_mm.{hook}',
                by_epoch=by_epoch,
                interval=1 if by_epoch else 2,
                max_keep_ckpts=1,
                save_best='erratic/score',
                rule='greater',
            ),
            param_scheduler=dict(type='ParamSchedulerHook'),
            resume=dict(type='protuning_mm.ExactResumeHook'),
            tuning=dict(type='protuning_mm.TuningHook'),
        ),
    )
    run.train()


def in_a_child(*args: Any) -> int:
    """Train in a fork; return its status."""
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        train(*args)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def content(folder: Path) -> dict[str, Any]:
    """The state dicts, optimizers and learning rates of every checkpoint, by its name."""
    found = {}
    for path in sorted(folder.glob('*.pth')):
        loaded = torch.load(path, weights_only=False)
        found[path.name] = {key: loaded[key] for key in ('state_dict', 'optimizer', 'resume_state') if key in loaded}
        found[path.name]['best'] = loaded['message_hub']['runtime_info'].get('best_score')
    return found


def difference(one: Any, other: Any, name: str = '') -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        if set(one) != set(other):
            return f'{name}: {sorted(map(str, one))} is not {sorted(map(str, other))}'
        return next((said for key in one if (said := difference(one[key], other[key], f'{name}/{key}'))), '')
    if isinstance(one, list) and isinstance(other, list):
        return difference(dict(enumerate(one)), dict(enumerate(other)), name)
    equal = torch.equal(one, other) if isinstance(one, Tensor) else one == other
    return '' if equal else f'{name} differs'


def main() -> None:
    out, weights, first, step, hook, loop, *last = sys.argv[1:]
    assert in_a_child(Path(out) / 'whole', weights, NEVER, hook, loop, False) == 0
    expected = content(Path(out) / 'whole')
    print(sorted(expected))
    moment = int(first)
    while not last or moment <= int(last[0]):
        folder = Path(out) / str(moment)
        status = in_a_child(folder, weights, moment, hook, loop, False)
        if not os.WIFSIGNALED(status):
            return
        ended = in_a_child(folder, weights, NEVER, hook, loop, True)
        said = difference(content(folder), expected) if ended == 0 else f'exit {ended}'
        under_way = (Path(out) / f'{moment}.moment').read_text()[:60].replace('\n', ' ')
        print(moment, under_way, '|', said or 'same', flush=True)
        moment += int(step)


if __name__ == '__main__':
    main()
