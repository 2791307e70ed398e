"""One-stage detectors as TorchScript and ONNX, boxes and all."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from protuning_mm.backbones import tuned_backbones
from protuning_mm.cli.export import ExportError, export, load_model
from protuning_mm.cli.export_detector import Detection, compare_boxes
from protuning_mm.cli.export_selection import choose
from protuning_mm.doctor.trial_step import init_modules
from protuning_mm.engine.config import read_config
from tests.host_families import forget_checkpoints
from tests.plain import disturb

FAMILIES = {
    'retinanet': 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
    'rtmdet': 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'fcos': 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'atss': 'mmdet::atss/atss_r50_fpn_1x_coco.py',
    'gfl': 'mmdet::gfl/gfl_r50_fpn_1x_coco.py',
    'yolox': 'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
}
QUICK = ('retinanet', 'rtmdet')


def detector(family: str, tmp_path: Path) -> nn.Module:
    """A tuned detector whose scores differ like those of a trained one, loaded from a checkpoint."""
    init_default_scope('mmdet')
    cfg = read_config(FAMILIES[family], dict(tune='pro'))
    forget_checkpoints(cfg.model)
    cfg.model.backbone.allow_random_backbone = True
    torch.manual_seed(0)
    model: Any = MODELS.build(cfg.model)
    init_modules(model)
    disturb(next(iter(tuned_backbones(model).values())).prompts)
    for name, module in model.bbox_head.named_modules():
        if isinstance(module, nn.Conv2d) and ('cls' in name or 'obj' in name):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)  # YOLOX multiplies two scores, which begin at 0.01
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    return load_model(cfg, str(tmp_path / 'model.pth'))


@pytest.mark.parametrize('ending', ['onnx', 'ts'])
@pytest.mark.parametrize('family', [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES])
def test_boxes_are_those_of_mmdet(family: str, ending: str, tmp_path: Path) -> None:
    model: Any = detector(family, tmp_path)
    out = tmp_path / f'boxes.{ending}'
    assert export(model, out, size=(128, 160)) <= 1e-4
    image = torch.rand(1, 3, 128, 160, generator=torch.Generator().manual_seed(7)) * 2 - 1
    with torch.no_grad():
        expected = Detection(model)(image)
    assert len(expected[0]) > 20 and len(expected[1].unique()) > 10
    if ending == 'ts':
        got = torch.jit.load(str(out))(image)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(out), providers=['CPUExecutionProvider'])
        assert [each.name for each in session.get_outputs()] == ['boxes', 'scores', 'labels']
        got = [torch.from_numpy(each) for each in session.run(None, {'image': image.numpy()})]
    assert len(got[0]) == len(expected[0]) and compare_boxes(expected, got, 1e-4) <= 1e-4


@pytest.mark.parametrize('family', ['retinanet', pytest.param('yolox', marks=pytest.mark.slow)])
def test_images_without_and_with_boxes(family: str, tmp_path: Path) -> None:
    """The image of the trace has no box above the threshold; others have some, and an empty one has none."""
    import onnxruntime

    model: Any = detector(family, tmp_path)
    images = [torch.zeros(1, 3, 128, 160), 3 * torch.randn(1, 3, 128, 160), torch.rand(1, 3, 128, 160)]
    with torch.no_grad():
        highest = sorted(float(Detection(model)(image)[1].max()) for image in images)
    model.bbox_head.test_cfg.score_thr = (highest[1] + highest[2]) / 2  # one image has boxes above it
    export(model, tmp_path / 'boxes.onnx', size=(128, 160))
    session = onnxruntime.InferenceSession(str(tmp_path / 'boxes.onnx'), providers=['CPUExecutionProvider'])
    counts = []
    for image in images:
        with torch.no_grad():
            expected = model.bbox_head.predict(model.extract_feat(image), metas(image), rescale=False)[0]
        got = session.run(None, {'image': image.numpy()})
        counts.append(len(got[0]))
        assert len(got[0]) == len(expected.bboxes)
        assert torch.allclose(torch.from_numpy(got[1]), expected.scores, atol=1e-5)
    assert counts.count(0) == 2 and max(counts) > 0
    assert model.bbox_head.test_cfg.score_thr > highest[1]


@pytest.mark.parametrize('family', ['fcos', pytest.param('atss', marks=pytest.mark.slow)])
def test_threshold_applies_before_centerness(family: str, tmp_path: Path) -> None:
    """The score of a box is the product of two scores; mmdet compares one of them with the threshold."""
    model: Any = detector(family, tmp_path)
    model.bbox_head.test_cfg.score_thr = 0.5
    export(model, tmp_path / 'boxes.ts', size=(128, 160))
    image = torch.rand(1, 3, 128, 160, generator=torch.Generator().manual_seed(7)) * 2 - 1
    with torch.no_grad():
        found = model.bbox_head.predict(model.extract_feat(image), metas(image), rescale=False)[0]
    expected = [found.bboxes, found.scores, found.labels]
    assert len(found) > 20 and int((found.scores < 0.5).sum()) > 20
    got = torch.jit.load(str(tmp_path / 'boxes.ts'))(image)
    assert len(got[0]) == len(found) and compare_boxes(expected, got, 1e-4) <= 1e-4


def metas(image: torch.Tensor) -> list[Any]:
    from mmdet.structures import DetDataSample

    size = tuple(image.shape[-2:])
    return [DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size, scale_factor=(1.0, 1.0)))]


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    model: Any = detector('retinanet', tmp_path)
    for out, settings in (('boxes.pt2', {}), ('boxes.onnx', dict(dynamic='batch'))):
        with pytest.raises(ExportError, match='for one image of one size, to TorchScript or ONNX'):
            export(model, tmp_path / out, **settings)
    model.bbox_head.test_cfg.nms.type = 'soft_nms'
    with pytest.raises(ExportError, match="nms.type='soft_nms' cannot be exported: set it to nms"):
        export(model, tmp_path / 'boxes.onnx')
    assert not list(tmp_path.glob('boxes*'))


def test_choose_is_mmdet_s_selection() -> None:
    from mmdet.models.utils import filter_scores_and_topk

    scores = torch.rand(50, 7, generator=torch.Generator().manual_seed(0))
    for threshold, number in ((0.5, 20), (0.9, 1000), (0.99999, 10)):
        rows = dict(row=torch.arange(50))
        ours, theirs = choose(scores, threshold, number, rows), filter_scores_and_topk(scores, threshold, number, rows)
        assert all(torch.equal(a, b) for a, b in zip(ours[:3], theirs[:3]))
        assert torch.equal(ours[3]['row'], theirs[3]['row'])


def test_compare_boxes() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 20, 20], [50, 50, 100, 100]])
    scores, labels = torch.tensor([0.9, 0.9, 0.1]), torch.tensor([1, 1, 2])
    swapped = (boxes[[1, 0, 2]], scores[[1, 0, 2]], labels[[1, 0, 2]])
    assert compare_boxes((boxes, scores, labels), swapped, 1e-4) == 0
    assert compare_boxes((boxes, scores, labels), (boxes + 0.5, scores, labels), 1e-4) == pytest.approx(0.005)
    assert compare_boxes((boxes, scores, labels), (boxes, scores, labels + 1), 1e-4) == 1
    masks = torch.rand(3, 4, 4)
    other = masks.clone()
    other[1, 2, 3] -= 0.25
    expected, got = (boxes, scores, labels, masks), (*swapped, masks[[1, 0, 2]])
    assert compare_boxes(expected, got, 1e-4) == 0
    assert compare_boxes(expected, (boxes, scores, labels, other), 1e-4) == pytest.approx(0.25)
    nothing = (boxes[:0], scores[:0], labels[:0])
    assert compare_boxes((boxes, scores, labels), nothing, 1e-4) == 1
    alike = (boxes, torch.full_like(scores, 0.5), labels)  # which of these are selected is a matter of rounding
    assert math.isnan(compare_boxes(nothing, nothing, 1e-4)) and math.isnan(compare_boxes(alike, alike, 1e-4))
