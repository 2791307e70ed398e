"""tools/visualize_prompts.py: its numbers against stage-by-stage forward passes of the host libraries' networks."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import Tensor, nn

from protuning_lab.pictures import figures
from protuning_lab.pictures import visualize_prompts as tool
from protuning_lab.pictures.figures import PictureError
from protuning_lab.pictures.model_input import ModelInput, map_strides, read_input
from protuning_lab.pictures.prompt_figure import draw_prompts
from protuning_lab.pictures.stage_changes import Change, StageMaps, get_tuned_backbone, measure_change, record_changes
from protuning_mm import TUNINGS, ProTunedResNet, TunedBackbone
from protuning_mm.data import DataError
from protuning_mm.multitask.hosts import TestPipeline, load_model
from protuning_mm.tunings import Tuning
from tests.families import FAMILIES, build_plain, images
from tests.plain import fill, image, plain_resnet, prompt_by_hand
from tests.test_multitask.tasks import Workshop


@pytest.fixture(scope='module')
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder: Path = tmp_path_factory.mktemp('workshop')
    return Workshop(folder)


def tuned(family: str, tuning: Any = 'pro', **kwargs: Any) -> TunedBackbone:
    backbone = TunedBackbone(FAMILIES[family], tuning, **kwargs)
    fill(backbone)
    return backbone.eval()


def prompts_of(backbone: TunedBackbone) -> list[dict[str, Tensor]]:
    """Return the tensors of each stage's prompt block."""
    state = {key: tensor.detach() for key, tensor in backbone.state_dict().items()}
    return [
        {key.split('.', 2)[2]: tensor for key, tensor in state.items() if key.startswith(f'prompts.{i}.')}
        for i in range(4)
    ]


def twin(family: str, backbone: TunedBackbone) -> Any:
    """Build the host library's network with the same frozen tensors."""
    plain = build_plain(family)
    state = backbone.state_dict()
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    plain.eval()  # returns None in some host libraries
    return plain


def walk_resnet(plain: Any, x: Tensor, prompts: list[dict[str, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    x, seen = plain.maxpool(plain.relu(plain.norm1(plain.conv1(x)))), []
    for name, prompt in zip(plain.res_layers, prompts):
        x = plain.get_submodule(name)(x)
        seen.append((x, prompt_by_hand(prompt, x)))
        x = x + seen[-1][1]
    return seen


def walk_swin(plain: Any, x: Tensor, prompts: list[dict[str, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    (x, size), seen = plain.patch_embed(x), []
    for stage, prompt in zip(plain.stages, prompts):
        for block in stage.blocks:
            x = block(x, size)
        grid = x.transpose(1, 2).unflatten(2, size)
        seen.append((grid, prompt_by_hand(prompt, grid)))
        x = x + seen[-1][1].flatten(2).transpose(1, 2)
        if stage.downsample:
            x, size = stage.downsample(x, size)
    return seen


def walk_vit(plain: Any, x: Tensor, prompts: list[dict[str, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Four layers are four stages; the class token comes before the patches."""
    (x, size), seen = plain.patch_embed(x), []
    x = torch.cat((plain.cls_token, x), 1) + plain.pos_embed
    for layer, prompt in zip(plain.layers, prompts):
        x = layer(x)
        grid = x[:, 1:].transpose(1, 2).unflatten(2, size)
        seen.append((grid, prompt_by_hand(prompt, grid)))
        x = torch.cat((x[:, :1], x[:, 1:] + seen[-1][1].flatten(2).transpose(1, 2)), 1)
    return seen


WALKS = {
    'mmdet.ResNet': walk_resnet,
    'mmdet.ResNet50': walk_resnet,
    'mmdet.Swin': walk_swin,
    'mmpretrain.ViT': walk_vit,
    'mmpretrain.ViT_cls': walk_vit,
}


@pytest.mark.parametrize('efficient', [True, False])
@pytest.mark.parametrize('family', list(WALKS))
def test_norms_and_ratios_equal_a_manual_forward_pass(family: str, efficient: bool) -> None:
    """With and without efficient execution: norms of x, P(x) and x + P(x) at every position, and the ratio."""
    backbone = tuned(family, efficient_frozen=efficient)
    x = images(family, batch=1)
    with torch.no_grad():
        expected = WALKS[family](twin(family, backbone), x, prompts_of(backbone))
    seen = [measure_change(change) for change in record_changes(backbone, x)]
    assert [maps.stage for maps in seen] == [0, 1, 2, 3]
    for maps, (feature, prompt) in zip(seen, expected):
        f, p = feature[0].double().numpy(), prompt[0].double().numpy()
        assert maps.channels == len(f) and maps.tuning == 'pro'
        for got, wanted in ((maps.before, f), (maps.prompt, p), (maps.after, f + p)):
            np.testing.assert_allclose(got, np.sqrt((wanted**2).sum(0)), rtol=2e-3)
        assert maps.ratio == pytest.approx(np.linalg.norm(p.ravel()) / np.linalg.norm(f.ravel()), rel=1e-3)
        assert maps.ratio > 0.001  # otherwise the check would pass with a prompt of zero


def test_recording_changes_nothing() -> None:
    backbone = tuned('mmdet.ResNet')
    x = images('mmdet.ResNet', batch=1)
    with torch.no_grad():
        before = backbone(x)
        record_changes(backbone, x)
        after = backbone(x)
    assert all(torch.equal(a, b) for a, b in zip(before, after))
    assert not any(block._forward_hooks for block in backbone.prompts)


def test_stages_without_a_prompt_have_no_column() -> None:
    backbone = tuned('mmdet.ResNet', dict(type='pro', prompt_stages=[1, 3]))
    assert [change.stage for change in record_changes(backbone, images('mmdet.ResNet', 1))] == [1, 3]


def test_other_tuning_with_after_stage() -> None:
    class Doubling(Tuning):
        def after_stage(self, i: int, x: Tensor) -> Tensor:
            return x.mul_(2) if i == 2 else x

    TUNINGS.register_module('doubling', module=Doubling)
    try:
        backbone = tuned('mmdet.ResNet', 'doubling')
        (seen,) = record_changes(get_tuned_backbone(nn.ModuleDict(dict(backbone=backbone))), images('mmdet.ResNet', 1))
    finally:
        TUNINGS.module_dict.pop('doubling')
    assert (seen.stage, seen.tuning) == (2, 'doubling') and 'after_stage' not in vars(backbone.tunings[0])
    assert torch.equal(seen.prompt, seen.feature) and measure_change(seen).ratio == pytest.approx(1)


@pytest.mark.parametrize('tuning', ['linear', 'lora', 'side', ['bias', 'ssf'], dict(type='pro', prompt_stages=[])])
def test_tuning_without_prompts_raises(tuning: Any) -> None:
    name = 'bias, ssf' if isinstance(tuning, list) else 'pro' if isinstance(tuning, dict) else tuning
    with pytest.raises(
        PictureError, match=rf'model.backbone.tuning is {name}, which changes no feature map.*after_stage'
    ):
        get_tuned_backbone(nn.ModuleDict(dict(backbone=tuned('mmdet.ResNet', tuning))))


def test_backbone_without_tuning_raises() -> None:
    with pytest.raises(PictureError, match='model.backbone is a ResNet without a tuning'):
        get_tuned_backbone(nn.ModuleDict(dict(backbone=plain_resnet(depth=18))))


def test_non_finite_values_raise() -> None:
    x = torch.ones(1, 2, 3, 3)
    with pytest.raises(PictureError, match='stage 2, pro: the prompt has values that are not finite'):
        measure_change(Change(1, 'pro', x, x * float('nan')))


def test_zero_prompt_has_ratio_zero() -> None:
    backbone = ProTunedResNet(depth=18, base_channels=4, stem_channels=4, host='mmdet').eval()  # its initial values
    assert [measure_change(change).ratio for change in record_changes(backbone, image(batch=1))] == [0, 0, 0, 0]


# family -> (height, width) of the image, which few strides divide, and the stride of each stage
GRIDS = {
    'mmdet.ResNet': ((100, 131), [4, 8, 16, 32]),
    'mmseg.ResNetV1c': ((97, 64), [4, 8, 8, 8]),  # dilated
    'mmpretrain.ConvNeXt': ((100, 70), [4, 8, 16, 32]),  # rounds down
    'mmdet.Swin': ((97, 130), [4, 8, 16, 32]),
    'mmpretrain.ViT': ((32, 32), [8, 8, 8, 8]),
    'mmseg.ViT': ((30, 41), [8, 8, 8, 8]),  # patches extend beyond the image
    'timm.deit': ((32, 32), [8, 8, 8, 8]),
}


@pytest.mark.parametrize('family', list(GRIDS))
def test_map_strides(family: str) -> None:
    size, expected = GRIDS[family]
    backbone = tuned(family)
    maps = [tuple(change.prompt.shape[2:]) for change in record_changes(backbone, images(family, 1, size))]
    assert map_strides(backbone, size, maps) == [(step, step) for step in expected]


@pytest.mark.parametrize(
    ('kind', 'padding', 'rgb'), [('det', True, True), ('seg', False, True), ('cls', False, True), ('cls', False, False)]
)
def test_figure_shows_the_pixels_of_the_file(
    kind: str, padding: bool, rgb: bool, workshop: Workshop, tmp_path: Path
) -> None:
    """Normalisation and channel order are undone; padding is on the right and at the bottom."""
    cfg, checkpoint = workshop.task(kind)
    if not rgb:  # the model is given BGR
        cfg.data_preprocessor.to_rgb = False
    model, _ = load_model(cfg, checkpoint, 'cpu', before_loading=lambda model: None)
    pixels = cv2.resize(cv2.imread(workshop.images[0]), (120, 90))
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), pixels)
    if kind == 'det':  # its pipeline resizes to 128×96, which needs no padding, so use another size
        cfg.test_dataloader.dataset.pipeline[1].scale = (120, 90)
    seen = read_input(model, TestPipeline(cfg), str(path))
    assert seen.shown == (90, 120)
    assert seen.pixels.shape == ((96, 128, 3) if padding else (90, 120, 3)) == (*seen.tensor.shape[2:], 3)
    difference = np.abs(seen.pixels[:90, :120].astype(int) - pixels[..., ::-1].astype(int))
    assert difference.max() <= 1


def arrays(figure: Any) -> dict[str, np.ndarray]:
    """Return the images of the axes with a map, by title or label."""
    return {axes.get_ylabel() or axes.get_title(): axes.images[0] for axes in figure.axes if axes.images}


@pytest.mark.parametrize('scale', ['stage', 'shared'])
def test_maps_are_aligned_and_scaled(scale: str) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
    maps = [
        StageMaps(0, 'pro', 8, rng.random((10, 15)), 3 + rng.random((10, 15)), 5 + rng.random((10, 15)), 0.5),
        StageMaps(1, 'pro', 16, 9 * rng.random((2, 2)), rng.random((2, 2)), rng.random((2, 2)), 0.25),
    ]
    figure = draw_prompts(ModelInput(torch.empty(0), pixels, (40, 50)), maps, [(4, 4), (32, 32)], 'title', scale)
    shown = [axes.images[0] for axes in figure.axes if len(axes.images) == 2]  # a map, and the image's edges on it
    prompts = shown[:2]
    tops = [float(m.prompt.max()) for m in maps]
    expected = tops if scale == 'stage' else [max(tops)] * 2
    assert [picture.get_clim() for picture in prompts] == [(0, top) for top in expected]
    assert [tuple(picture.get_extent()) for picture in prompts] == [(0, 60, 40, 0), (0, 64, 64, 0)]
    for i, stage in enumerate(maps):
        before, after, change = shown[2 + i], shown[4 + i], shown[6 + i]
        values = np.concatenate((stage.before.ravel(), stage.after.ravel()))
        assert before.get_clim() == after.get_clim() == (values.min(), values.max())
        assert np.array_equal(before.get_array(), stage.before) and np.array_equal(after.get_array(), stage.after)
        difference = stage.after - stage.before
        assert np.array_equal(change.get_array(), difference)
        assert change.get_clim() == (-abs(difference).max(), abs(difference).max())
    assert all(axes.get_xlim() == (0, 60) and axes.get_ylim() == (40, 0) for axes in figure.axes if axes.images[1:])
    said = [axes.get_xlabel() for axes in figure.axes]
    assert '|P(x)| / |x| = 0.5' in said and '|P(x)| / |x| = 0.25' in said


def is_drawn(path: Path) -> bool:
    picture = cv2.imread(str(path))
    return picture is not None and picture.std() > 20 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 500


@pytest.mark.parametrize(
    ('kind', 'form'),
    [
        ('cls', 'delta'),
        pytest.param('seg', 'whole', marks=pytest.mark.slow),
        pytest.param('det', 'delta', marks=pytest.mark.slow),
        pytest.param('det', 'whole', marks=pytest.mark.slow),
        pytest.param('seg', 'delta', marks=pytest.mark.slow),
    ],
)
def test_command(kind: str, form: str, workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    cfg, checkpoint = workshop.task(kind, form=form)
    config, out = tmp_path / 'config.py', tmp_path / 'out'
    cfg.dump(config)
    tool.main([str(config), checkpoint, *workshop.images[:1], '--out', str(out), '--device', 'cpu', '--dpi', '60'])
    printed = capsys.readouterr().out
    picture = out / f'{Path(workshop.images[0]).stem}.png'
    assert list(out.iterdir()) == [picture]  # and no half-written file
    assert is_drawn(picture)
    assert str(picture) in printed and printed.count('  pro') == 4


def test_failed_save_keeps_the_old_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'picture.png'
    figure = figures.new_figure(2, 2)
    figures.save_figure(figure, path)
    whole = path.read_bytes()

    def cut(file: Any, **kwargs: Any) -> None:
        file.write(whole[: len(whole) // 2])
        raise MemoryError

    monkeypatch.setattr(figure, 'savefig', cut)
    with pytest.raises(MemoryError):
        figures.save_figure(figure, path)
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


def test_images_with_equal_names_get_separate_figures(workshop: Workshop, tmp_path: Path) -> None:
    cfg, checkpoint = workshop.task('cls')
    paths = [tmp_path / folder / 'photo.jpg' for folder in ('one', 'other')]
    for path, pixels in zip(paths, workshop.images):
        path.parent.mkdir()
        path.write_bytes(Path(pixels).read_bytes())
    drawn = tool.visualize_prompts(cfg, checkpoint, [*map(str, paths), str(paths[0])], tmp_path / 'out', device='cpu')
    assert [each.image for each in drawn] == [str(path) for path in paths], 'an image that is given twice is drawn once'
    assert len({each.picture for each in drawn}) == 2 and all(each.picture.is_file() for each in drawn)


def test_invalid_input_raises(workshop: Workshop, tmp_path: Path) -> None:
    cfg, checkpoint = workshop.task('cls')
    out = str(tmp_path / 'out')
    with pytest.raises(SystemExit, match="there is no config 'none.py'"):
        tool.main(['none.py', checkpoint, workshop.images[0], '--out', out])
    with pytest.raises(DataError, match=r"'none.jpg' does not exist"):
        tool.visualize_prompts(cfg, checkpoint, ['none.jpg'], out)
    (tmp_path / 'broken.jpg').write_bytes(b'nothing')
    with pytest.raises(DataError, match=r'broken.jpg.* cannot be decoded'):
        tool.visualize_prompts(cfg, checkpoint, [str(tmp_path / 'broken.jpg')], out, device='cpu')
    plain = Config(cfg.to_dict())
    plain.model.backbone = dict(type='ResNet', depth=18, out_indices=(3,))
    with pytest.raises(PictureError, match='is a ResNet without a tuning'):
        tool.visualize_prompts(plain, checkpoint, workshop.images[:1], out, device='cpu')
    assert not Path(out).exists()
