"""Two-stage detectors as TorchScript and ONNX: boxes, scores, labels and masks, against mmdet's own prediction."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from protuning_mm.backbones import tuned_backbones
from protuning_mm.cli.export import ExportError, export, load_model, main
from protuning_mm.cli.export_detector import compare_boxes
from protuning_mm.cli.export_roi_heads import align_rois, average, count, pool_rois
from protuning_mm.cli.export_selection import suppress
from protuning_mm.doctor.trial_step import init_modules
from protuning_mm.engine.config import read_config
from tests.host_families import forget_checkpoints
from tests.mini import write_config
from tests.plain import disturb
from tests.test_docs import walk_through
from tests.test_entry_points import save_checkpoint

FAMILIES = {
    'faster': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mask': 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'cascade': 'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
    'cascade mask': 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    'htc': 'mmdet::htc/htc_r50_fpn_1x_coco.py',
}
OTHERS = {
    'double head': 'mmdet::double_heads/dh-faster-rcnn_r50_fpn_1x_coco.py',  # scales its RoIs
    'groie': 'mmdet::groie/faste-rcnn_r50_fpn_groie_1x_coco.py',  # pools every RoI from all levels
    'fcos rpn': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_fcos-rpn_1x_coco.py',
}
QUICK = ('faster', 'mask')
SIZE = (128, 160)
CASES = [(family, ending) for family in FAMILIES for ending in ('onnx', 'ts')] + [(family, 'onnx') for family in OTHERS]


def detector(family: str, tmp_path: Path) -> Any:
    """A tuned detector whose scores differ like those of a trained one, loaded from a checkpoint."""
    init_default_scope('mmdet')
    options: dict[str, Any] = {'tune': 'pro', 'model.backbone.depth': 18, 'model.neck.in_channels': [64, 128, 256, 512]}
    options |= {'model.test_cfg.rpn.nms.iou_threshold': 0.4}  # numbers of proposals below the limit
    cfg = read_config({**FAMILIES, **OTHERS}[family], options)
    forget_checkpoints(cfg.model)
    for part, width in (('bbox_head', 'fc_out_channels'), ('mask_head', 'conv_out_channels')):
        heads = cfg.model.roi_head.get(part, [])
        for head in heads if isinstance(heads, list) else [heads]:
            head[width] = 256 if head.type == 'HTCMaskHead' else 64  # HTC adds features of two stages
    torch.manual_seed(0)
    model: Any = MODELS.build(cfg.model)
    init_modules(model)
    disturb(next(iter(tuned_backbones(model).values())).prompts)
    for name, module in model.named_modules():
        if name.endswith(('rpn_cls', 'rpn_reg', 'conv_cls', 'conv_reg', 'conv_centerness')):
            nn.init.kaiming_normal_(module.weight)
            nn.init.constant_(module.bias, 3.0 if name.endswith('conv_reg') else 0.0)  # FCOS: boxes of e³ pixels
        elif name.endswith(('fc_cls', 'fc_reg')):
            nn.init.normal_(module.weight, std=0.1)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    model = load_model(cfg, str(tmp_path / 'model.pth'))
    for module in model.modules():
        if hasattr(module, 'finest_scale'):
            module.finest_scale = 14  # small images have RoIs on all levels
    return model


def sample(image: Tensor) -> Any:
    from mmdet.structures import DetDataSample

    size = tuple(image.shape[-2:])
    return DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size, scale_factor=(1.0, 1.0)))


def propose(model: Any, image: Tensor) -> Any:
    with torch.no_grad():
        return model.rpn_head.predict(model.extract_feat(image), [sample(image)], rescale=False)[0]


def predict(model: Any, image: Tensor) -> list[Tensor]:
    """Return what mmdet predicts, with masks as it computes them before it pastes them into the image."""
    from mmdet.models.roi_heads.mask_heads import fcn_mask_head

    paste, masks = fcn_mask_head._do_paste_mask, [torch.zeros(0, 1, 28, 28)]

    def record(mask: Tensor, *args: Any, **kwargs: Any) -> Any:
        masks.append(mask)
        return paste(mask, *args, **kwargs)

    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcn_mask_head, '_do_paste_mask', record)
        (predicted,) = model.predict(image, [sample(image)], rescale=False)
    found = predicted.pred_instances
    results = [found.bboxes, found.scores, found.labels]
    return [*results, torch.cat(masks)[:, 0]] if model.with_mask else results


def exported(model: Any, out: Path) -> Callable[[Tensor], list[Tensor]]:
    export(model, out, size=SIZE)
    if out.suffix == '.ts':
        loaded = torch.jit.load(str(out))
        return lambda image: list(loaded(image))
    session = onnxruntime.InferenceSession(str(out), providers=['CPUExecutionProvider'])
    names = ['boxes', 'scores', 'labels', *(['masks'] if model.with_mask else [])]
    assert [each.name for each in session.get_outputs()] == names
    return lambda image: [torch.from_numpy(each) for each in session.run(None, {'image': image.numpy()})]


def images() -> list[Tensor]:
    """Two images of noise, and one of a single color."""
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(2, 1, 3, *SIZE, generator=generator)
    return [noise[0], torch.ones(1, 3, *SIZE), 2 * noise[1]]


def set_threshold(model: Any, image: Tensor, number: int) -> None:
    """Set the threshold of scores such that mmdet predicts this number of boxes in an image."""
    model.roi_head.test_cfg.score_thr = 0.02
    scores = predict(model, image)[1]
    model.roi_head.test_cfg.score_thr = float(scores[number - 1 : number + 1].mean())


@pytest.mark.parametrize(
    ('family', 'ending'), [pytest.param(*case, marks=[] if case[0] in QUICK else pytest.mark.slow) for case in CASES]
)
def test_results_are_those_of_mmdet(family: str, ending: str, tmp_path: Path) -> None:
    """On images with other numbers of proposals and boxes."""
    model = detector(family, tmp_path)
    set_threshold(model, images()[0], 40)
    run = exported(model, tmp_path / f'found.{ending}')
    proposals, boxes = [], []
    for image in images():
        expected, got = predict(model, image), run(image)
        assert [each.shape for each in got] == [each.shape for each in expected]
        assert torch.allclose(got[1], expected[1], atol=1e-4)
        assert not len(got[0]) or compare_boxes(expected, got, 1e-4) <= 1e-4
        proposals.append(len(propose(model, image)))
        boxes.append(len(got[0]))
    assert len(set(proposals)) == 3 and len(set(boxes)) > 1 and boxes[0] == 40
    assert len(expected[1].unique()) > 20 and len(expected[2].unique()) > 1


@pytest.mark.parametrize('family', ['mask', *(pytest.param(f, marks=pytest.mark.slow) for f in ('faster', 'htc'))])
def test_images_without_boxes(family: str, tmp_path: Path) -> None:
    """No image but the last has a box above the threshold, that of the trace neither."""
    model = detector(family, tmp_path)
    inputs = [*images()[:2], torch.rand(1, 3, *SIZE), 1.5 * images()[2]]  # the third is as in the trace
    *lower, highest = [float(predict(model, image)[1].max()) for image in inputs]
    assert max(lower) < highest - 0.01
    model.roi_head.test_cfg.score_thr = (max(lower) + highest) / 2
    run = exported(model, tmp_path / 'found.onnx')
    for image, any_box in zip(inputs, (False, False, False, True)):
        expected, got = predict(model, image), run(image)
        assert bool(len(expected[0])) == any_box
        assert [each.shape for each in got] == [each.shape for each in expected]
        assert all(torch.allclose(a.to(b), b, rtol=1e-4, atol=1e-4) for a, b in zip(got, expected))


@pytest.mark.slow
def test_images_with_and_without_proposals(tmp_path: Path) -> None:
    """FCOS as RPN has a threshold, above which one image has proposals."""
    model = detector('fcos rpn', tmp_path)
    with torch.no_grad():
        logits = [model.rpn_head(model.extract_feat(image))[0] for image in images()]
    highest = sorted(max(float(level.sigmoid().max()) for level in each) for each in logits)
    model.rpn_head.test_cfg.score_thr = (highest[1] + highest[2]) / 2
    model.roi_head.test_cfg.score_thr = 0.02
    run = exported(model, tmp_path / 'found.onnx')
    numbers = []
    for image in images():
        expected, got = predict(model, image), run(image)
        assert [each.shape for each in got] == [each.shape for each in expected]
        assert not len(got[0]) or compare_boxes(expected, got, 1e-4) <= 1e-4
        numbers.append(len(got[0]))
    assert numbers.count(0) == 2 and max(numbers) > 0


def test_image_without_proposals(tmp_path: Path) -> None:
    model = detector('mask', tmp_path)
    model.rpn_head.test_cfg.min_bbox_size = max(SIZE)
    run = exported(model, tmp_path / 'found.ts')
    assert [each.shape for each in run(images()[0])] == [(0, 4), (0,), (0,), (0, 28, 28)]


def test_htc_with_preprocessing(tmp_path: Path) -> None:
    """Through the command, on an image as OpenCV reads it."""
    config = write_config('htc', tmp_path)
    checkpoint = save_checkpoint(config)
    out = tmp_path / 'found.onnx'
    main([str(config), str(checkpoint), str(out), '--size', '96', '128', '--with-preprocessing'])
    model = load_model(Config.fromfile(config), str(checkpoint))
    image = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)
    expected = predict(model, model.data_preprocessor(dict(inputs=[image]), False)['inputs'])
    session = onnxruntime.InferenceSession(str(out), providers=['CPUExecutionProvider'])
    got = [torch.from_numpy(each) for each in session.run(None, {'image': image[None].float().numpy()})]
    assert [each.shape for each in got] == [each.shape for each in expected]
    assert compare_boxes(expected, got, 1e-4) <= 1e-4


def test_masks_are_pasted_as_the_docs_say(tmp_path: Path) -> None:
    code: dict[str, Any] = {}
    exec(walk_through('export.md', tmp_path)['paste.py'], code)
    model = detector('mask', tmp_path)
    boxes, _, _, masks = predict(model, images()[0])
    with torch.no_grad():
        (expected,) = model.predict(images()[0], [sample(images()[0])], rescale=False)
    pasted = torch.stack([code['paste'](mask, box, *SIZE) for mask, box in zip(masks, boxes)])
    assert pasted.shape == (100, *SIZE) and 0.01 < pasted.float().mean() < 0.5
    assert torch.equal(pasted, expected.pred_instances.masks)


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    from mmdet.models.roi_heads import StandardRoIHead

    class OwnRoIHead(StandardRoIHead):
        def predict_mask(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError('not called')

    model = detector('mask', tmp_path)

    def refused(message: str, out: str = 'found.onnx', **settings: Any) -> None:
        with pytest.raises(ExportError, match=message):
            export(model, tmp_path / out, size=SIZE, **settings)

    refused('for one image of one size, to TorchScript or ONNX', 'found.pt2')
    refused('for one image of one size, to TorchScript or ONNX', dynamic='size')
    refused('--opset 15: this detector needs operator set 16 or later', opset=15)
    model.test_cfg.rcnn.nms.type = 'soft_nms'
    refused("test_cfg.rcnn.nms.type='soft_nms' cannot be exported: set it to nms")
    model.roi_head.mask_roi_extractor.roi_layers[0].pool_mode = 'max'
    refused('pool_mode=max.* cannot be exported: set roi_layer.type to RoIAlign and its pool_mode to avg')
    model.roi_head.__class__ = OwnRoIHead
    refused('OwnRoIHead.predict_mask cannot be exported, only that of BaseRoIHead, StandardRoIHead')
    assert not list(tmp_path.glob('found*'))


@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('levels', [4, 1])
def test_rois_are_pooled_as_by_mmdet(levels: int, sampling_ratio: int) -> None:
    from mmcv.ops import RoIAlign
    from mmdet.models.roi_heads import SingleRoIExtractor, cascade_roi_head, standard_roi_head

    from protuning_mm.patches import use_exportable_roi_heads

    layer = dict(type='RoIAlign', output_size=7, sampling_ratio=sampling_ratio)
    extractor = SingleRoIExtractor(layer, 8, [4, 8, 16, 32][:levels], finest_scale=10)
    feats = [torch.randn(1, 8, 32 >> level, 40 >> level) for level in range(levels)]
    low = torch.rand(60, 2) * 60
    sides = torch.cat((torch.rand(40, 2) * 100, torch.full((10, 2), 28.0), torch.zeros(10, 2)))
    rois = torch.cat((torch.zeros(60, 1), low, low + sides), 1)
    assert len(extractor.map_roi_levels(rois, levels).unique()) == levels
    forwards = SingleRoIExtractor.forward, RoIAlign.forward
    for some in (rois, rois[40:], rois[:0]):
        for factor in (None, 1.3):
            expected = extractor(feats, some, roi_scale_factor=factor)
            with use_exportable_roi_heads(suppress, pool_rois, align_rois, average, count):
                got = extractor(feats, some, roi_scale_factor=factor)
            assert got.shape == (len(some), 8, 7, 7) and torch.allclose(got, expected, atol=1e-5)
    assert (SingleRoIExtractor.forward, RoIAlign.forward) == forwards
    assert not hasattr(standard_roi_head, 'len') and not hasattr(cascade_roi_head, 'len')


def test_suppression_is_that_of_mmcv() -> None:
    from mmcv.ops import batched_nms

    generator = torch.Generator().manual_seed(0)
    low = torch.rand(200, 2, generator=generator) * 50
    boxes = torch.cat((low, low + 50 * torch.rand(200, 2, generator=generator)), 1)
    scores, classes = torch.rand(200, generator=generator), torch.arange(200) % 3
    settings = dict(type='nms', iou_threshold=0.5)
    fits = (scores > 0.3) & ((boxes[:, 2:] - boxes[:, :2]) > 5).all(1)
    expected, rows = batched_nms(boxes[fits], scores[fits], classes[fits], settings)
    got, kept = suppress(boxes, scores, classes, settings, least_score=0.3, least_side=5)
    assert torch.equal(got, expected) and torch.equal(kept, fits.nonzero()[:, 0][rows])
    assert 10 < len(kept) < int(fits.sum())
    for limits in (dict(least_score=2.0), dict(least_side=200)):
        one, kept = suppress(boxes, scores, classes, settings, **limits)
        assert one.shape == (1, 5) and one[0, 4] == -1 and torch.equal(one[:, :4], boxes[kept])
