"""``make demo``: data, training, evaluation, pictures and a table, in a few minutes on two cores.

python -m demo.run [--out work_dirs/demo --data data/demo --seed 0]
"""

import argparse
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo.data import make_data
from demo.training import ROOT, Run, ToolError, test, train

CONFIG = ROOT / 'configs/det/htc_efficientnet-lite0_protune_demo.py'
# the lowest segm mAP that counts as success; docs/demo.md has the results of three seeds
FLOOR = 0.6
DELTAS = (
    'default_hooks.checkpoint.type=protuning_mm.DeltaCheckpointHook',
    'default_hooks.checkpoint.save_optimizer=False',
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train HTC with a frozen, pro-tuned backbone on digits')
    parser.add_argument('--out', default=str(ROOT / 'work_dirs/demo'), help='output folder')
    parser.add_argument('--data', default=str(ROOT / 'data/demo'), help='folder of the data, which are made if missing')
    parser.add_argument('--seed', type=int, default=0, help='seed of the training')
    parser.add_argument('--only-tuned', action='store_true', help='leave out the run without prompts')
    return parser.parse_args(argv)


def run_demo(out: Path, data: Path, seed: int = 0, compare: bool = True) -> dict[str, Run]:
    """Run the demo.

    Args:
        out (Path): Folder for results.
        data (Path): Folder of the data; made when it is absent.
        seed (int): Seed of the training. Defaults to 0.
        compare (bool): Train with prompts off, too. Defaults to True.

    Returns:
        dict[str, Run]: The finished runs by name.

    Raises:
        ToolError: a tool failed.
    """
    # importing matplotlib takes seconds, and the first line should be printed at once
    from demo.pictures import draw_curves, draw_predictions

    if not (data / 'meta.json').is_file():
        _say(f'making the data in {data}')
        make_data(data)
    options = [f'data_root={data / "coco"}', f'randomness.seed={seed}', *DELTAS]
    variants = {'pro-tuned': options}
    if compare:
        variants['prompts off'] = [*options, 'model.backbone.tuning.prompt_stages=[]']
    _say(f'training HTC, {" and ".join(variants)} side by side: tools/train.py {CONFIG.relative_to(ROOT)}')
    threads = max(1, (os.cpu_count() or 1) // len(variants))
    with ThreadPoolExecutor(len(variants)) as pool:
        started = {
            name: pool.submit(train, CONFIG, out / name.replace(' ', '_'), settings, name, threads)
            for name, settings in variants.items()
        }
    runs = {name: run.result() for name, run in started.items()}
    tuned = runs['pro-tuned']
    _say(f'evaluating {tuned.checkpoint.name}: tools/test.py')
    prefix = out / 'results'
    test(CONFIG, tuned.checkpoint, out / 'test', [*options, f'test_evaluator.outfile_prefix={prefix}'])
    draw_curves(runs, out / 'curves.png')
    draw_predictions(data / 'coco', Path(f'{prefix}.segm.json'), out / 'predictions')
    write_tasks(runs, out / 'tasks')
    return runs


def write_tasks(runs: dict[str, Run], folder: Path) -> None:
    """Write the folder that ``protuning serve --tasks`` reads: a task for each run (docs/serving.md)."""
    (folder / 'configs').mkdir(parents=True, exist_ok=True)
    for name, run in runs.items():
        task = name.replace(' ', '-')
        shutil.copy(run.work_dir / CONFIG.name, folder / f'configs/{task}.py')
        (folder / task).mkdir(exist_ok=True)
        shutil.copy(run.checkpoint, folder / task / 'delta.pth')
        record = dict(config=f'{task}.py', delta='delta.pth')
        (folder / task / 'task.json').write_text(json.dumps(record) + '\n')


def summary(runs: dict[str, Run]) -> str:
    """Format a table with one column per run."""
    rows = {
        'bbox mAP': [f'{run.bbox:.3f}' for run in runs.values()],
        'segm mAP': [f'{run.segm:.3f}' for run in runs.values()],
        'parameters trained': [f'{run.trained:,}' for run in runs.values()],
        'parameters frozen': [f'{run.frozen:,}' for run in runs.values()],
        'delta': [f'{run.checkpoint.stat().st_size / 1e6:.1f} MB' for run in runs.values()],
        'training': [f'{run.seconds:.0f} s' for run in runs.values()],
    }
    lines = [f'{"":<20}' + ''.join(f'{name:>14}' for name in runs)]
    lines += [f'{name:<20}' + ''.join(f'{cell:>14}' for cell in cells) for name, cells in rows.items()]
    return '\n'.join(lines)


def check(runs: dict[str, Run]) -> str | None:
    """Return what is wrong with the results; None if the pro-tuned run's segm mAP is at least the floor."""
    segm = runs['pro-tuned'].segm
    return f'segm mAP {segm:.3f} is below {FLOOR}, the lowest that counts as working' if segm < FLOOR else None


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    start = time.perf_counter()
    out = Path(args.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    try:
        runs = run_demo(out, Path(args.data).resolve(), args.seed, compare=not args.only_tuned)
    except ToolError as error:
        raise SystemExit(f'error: {error}') from None
    table = summary(runs)
    (out / 'summary.txt').write_text(table + '\n')
    _say(f'done in {time.perf_counter() - start:.0f} s')
    print(f'\n{table}\n\n{out}: curves.png, predictions/, logs and TensorBoard scalars of each run')
    command = shlex.join([str(Path(sys.executable).with_name('protuning')), 'serve', '--tasks', str(out / 'tasks')])
    print(f'\nTo try the detectors on your own pictures, run this and open http://127.0.0.1:8000:\n  {command}')
    if shortfall := check(runs):
        raise SystemExit(f'error: {shortfall}')


def _say(text: str) -> None:
    print(f'==> {text}', flush=True)


if __name__ == '__main__':
    main()
