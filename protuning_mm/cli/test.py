"""``tools/test.py``: evaluate a checkpoint, with the flags of the hosts' ``test.py``."""

import argparse
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.registry import METRICS

from protuning_mm.cli.command import command
from protuning_mm.cli.run_config import add_common_arguments, load_config
from protuning_mm.data import check_data_files
from protuning_mm.engine.build_runner import build_runner
from protuning_mm.engine.launch import prepare_cpu_ranks
from protuning_mm.patches import prepare_process
from protuning_mm.weights import CheckpointError


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Evaluate a checkpoint or delta of a detector, segmentor or classifier'
    )
    add_common_arguments(parser)
    parser.add_argument('checkpoint', help='path of the whole checkpoint or delta')
    parser.add_argument(
        '--out',
        help='write the predictions to this .pkl file (detectors, classifiers), or as PNG label maps into this folder '
        '(segmentors)',
    )
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='draw the predictions into this folder')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds for which --show shows an image; defaults to 2'
    )
    parser.add_argument('--tta', action='store_true', help='use test-time augmentation')
    return parser.parse_args(argv)


def build_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the flags of ``test.py`` to it.

    Raises:
        SystemExit: a flag does not fit the config.
    """
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show or args.show_dir:
        _enable_drawing(cfg, args)
    if args.tta:
        _enable_tta(cfg)
    if args.out is not None and cfg.get('default_scope') == 'mmseg':
        cfg.test_evaluator.output_dir = args.out
        cfg.test_evaluator.keep_results = True
    return cfg


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = build_config(args)
    writes_file = args.out is not None and cfg.get('default_scope') != 'mmseg'
    if writes_file and not args.out.endswith(('.pkl', '.pickle')):
        raise SystemExit(f'error: --out {args.out}: must end in .pkl or .pickle')
    if '://' not in args.checkpoint and not Path(args.checkpoint).is_file():
        raise CheckpointError(f'checkpoint {args.checkpoint!r} does not exist')
    check_data_files(cfg, ('test_dataloader',))
    prepare_process(cfg.get('default_scope', ''))
    prepare_cpu_ranks(cfg)
    runner = build_runner(cfg)
    if writes_file:
        # mmdet's class encodes masks; bitmaps would fill the disk
        kind = 'DumpDetResults' if cfg.get('default_scope') == 'mmdet' else 'DumpResults'
        runner.test_evaluator.metrics.append(METRICS.build(dict(type=kind, out_file_path=args.out)))
    runner.test()


def _enable_drawing(cfg: Config, args: argparse.Namespace) -> None:
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise SystemExit('error: --show and --show-dir need default_hooks.visualization in the config')
    if cfg.get('default_scope') == 'mmpretrain':
        hook.enable = True
        hook.out_dir = args.show_dir
    else:
        hook.draw = True
    hook.show = args.show
    hook.wait_time = args.wait_time
    if args.show_dir and cfg.get('default_scope') == 'mmdet':
        hook.test_out_dir = args.show_dir
    elif args.show_dir and cfg.get('default_scope') == 'mmseg':
        cfg.visualizer.save_dir = args.show_dir


def _enable_tta(cfg: Config) -> None:
    if cfg.get('default_scope') == 'mmdet' and 'tta_model' not in cfg:
        nms = dict(type='nms', iou_threshold=0.5)
        cfg.tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=nms, max_per_img=100))
        meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip')
        flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        pack = [dict(type='PackDetInputs', meta_keys=(*meta, 'flip_direction'))]
        cfg.tta_pipeline = deepcopy(cfg.test_dataloader.dataset.pipeline)
        cfg.tta_pipeline[-1] = dict(type='TestTimeAug', transforms=[flips, pack])
    if 'tta_model' not in cfg:
        raise SystemExit('error: --tta: the config has no tta_model and tta_pipeline')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


if __name__ == '__main__':
    main()
