"""The output of an image never overwrites that of another: names, and tools/predict.py."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import pytest

from protuning_mm.cli import predict as tool
from protuning_mm.cli.output_names import link_distinct_names, make_distinct_names
from tests.mini import write_config
from tests.test_entry_points import save_checkpoint


@pytest.mark.parametrize(
    ('images', 'names'),
    [
        (['x/a.jpg', 'x/b.jpg'], ['a.jpg', 'b.jpg']),
        (['x/a.jpg', 'x/a.png'], ['a_jpg.jpg', 'a_png.png']),
        (['x/a.jpg', 'y/a.jpg', 'y/b.jpg'], ['x_a.jpg', 'y_a.jpg', 'b.jpg']),
        (['x/a.jpg', 'x/A.JPG'], ['a_1.jpg', 'A_2.JPG']),
        (['x/a.jpg', 'y/a.jpg', 'y/a.png'], ['x_a_jpg.jpg', 'y_a_jpg.jpg', 'y_a_png.png']),
        (['1/x/a.jpg', '2/x/a.jpg', 'a_2.jpg'], ['a_3.jpg', 'a_4.jpg', 'a_2.jpg']),
        (['x/a.jpg', 'y/a.jpg', 'z/x_a.jpg'], ['x_a_jpg.jpg', 'y_a_jpg.jpg', 'x_a.jpg']),
    ],
)
def test_distinct_names(images: Sequence[str], names: Sequence[str]) -> None:
    assert make_distinct_names(images) == dict(zip(images, names))


def test_copies_if_links_are_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(self: Path, target: Path) -> None:
        raise OSError('a required privilege is not held by the client')

    monkeypatch.setattr(Path, 'symlink_to', refuses)
    for name in ('a.jpg', 'a.png', 'b.png'):
        (tmp_path / name).write_text(name)
    with link_distinct_names([str(tmp_path / name) for name in ('a.jpg', 'a.png', 'b.png')]) as paths:
        assert [Path(path).name for path in paths] == ['a_jpg.jpg', 'a_png.png', 'b.png']
        assert [Path(path).read_text() for path in paths] == ['a.jpg', 'a.png', 'b.png']
    assert [Path(path).exists() for path in paths] == [False, False, True]


@pytest.mark.parametrize('model', ['cascade', pytest.param('upernet', marks=pytest.mark.slow)])
def test_predict_images_with_the_same_name(model: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Images that differ in extension or folder, and one image twice: one picture and prediction per image."""
    config = write_config(model, tmp_path)
    source = cv2.imread(str(next(tmp_path.rglob('*.jpg'))))
    for shade, name in ((0, 'x/a.jpg'), (80, 'x/a.png'), (160, 'y/a.jpg'), (240, 'y/b.jpg')):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), source * 0 + shade)
    inputs = [str(tmp_path / name) for name in ('x', 'y', 'y/../y/b.jpg', 'y/a.jpg')]
    out = tmp_path / 'out'
    tool.main([str(config), str(save_checkpoint(config)), *inputs, '--out', str(out), '--device', 'cpu'])
    printed = capsys.readouterr().out
    assert '4 images predicted' in printed and f'{tmp_path}/x/a.png: another image has the same name' in printed
    pictures = sorted((out / 'vis').iterdir())
    assert len(pictures) == len(list((out / ('preds' if model == 'cascade' else 'pred')).iterdir())) == 4
    if model == 'cascade':
        assert [p.stem for p in pictures] == ['b', 'x_a_jpg', 'x_a_png', 'y_a_jpg']
        assert [round(cv2.imread(str(p))[0].mean() / 80) for p in pictures] == [3, 0, 1, 2]
