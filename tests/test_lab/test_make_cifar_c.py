"""make_cifar_c.py: the same images as on the fly, in the published format, marked as generated."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmpretrain.registry import DATASETS

from protuning_lab.make_cifar_c import main
from tests.classification_data import without_checksums, write_cifar, write_cifar_c

KINDS = ['gaussian_noise', 'fog', 'impulse_noise']


def test_files_equal_images_made_on_the_fly(tmp_path: Path) -> None:
    without_checksums()
    clean, out = write_cifar(tmp_path / 'clean', test=1), tmp_path / 'c'
    main([str(clean), str(out), '--seed', '3', '--corruptions', *KINDS])
    assert {path.name for path in out.iterdir()} == {f'{k}.npy' for k in KINDS} | {'labels.npy', 'generated.json'}
    assert json.loads((out / 'generated.json').read_text())['seed'] == 3
    assert np.load(out / 'fog.npy').shape == (50, 32, 32, 3) and np.load(out / 'labels.npy').shape == (50,)
    cfg = dict(type='protuning_mm.CIFAR10C', corruptions=KINDS, seed=3, serialize_data=False)
    files = DATASETS.build(dict(cfg, data_root=str(out)))
    test = dict(type='CIFAR10', data_root=str(clean), split='test', download=False)
    made = DATASETS.build(dict(cfg, data_root=str(tmp_path / 'no'), clean=test))
    assert len(files) == len(made) == 150
    for i in range(150):
        a, b = files.get_info_with_image(i), made.get_info_with_image(i)
        assert np.array_equal(a.pop('img'), b.pop('img')) and a == b and a['generated']
    before = (out / 'fog.npy').stat().st_mtime_ns
    main([str(clean), str(out), '--seed', '3', '--corruptions', 'fog', 'contrast'])  # continues with the missing files
    assert (out / 'fog.npy').stat().st_mtime_ns == before and (out / 'contrast.npy').is_file()


def test_existing_files_are_not_overwritten(tmp_path: Path) -> None:
    without_checksums()
    clean = write_cifar(tmp_path / 'clean', test=1)
    published = write_cifar_c(tmp_path / 'published', images=1)
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    with pytest.raises(SystemExit, match='contains files that this tool did not make, perhaps the published ones'):
        main([str(clean), str(published)])
    assert {path.name: path.read_bytes() for path in published.iterdir()} == before
    main([str(clean), str(tmp_path / 'c'), '--corruptions', 'fog'])
    with pytest.raises(SystemExit, match="'seed': 0}, but the new files would be .*'seed': 1}: choose another folder"):
        main([str(clean), str(tmp_path / 'c'), '--corruptions', 'fog', '--seed', '1'])
    other = write_cifar(tmp_path / 'other', classes=100, test=1)
    before = (tmp_path / 'c/labels.npy').read_bytes()
    with pytest.raises(SystemExit, match="'clean': 'CIFAR10'.*the new files would be .*'clean': 'CIFAR100'"):
        main([str(other), str(tmp_path / 'c'), '--corruptions', 'fog'])
    assert (tmp_path / 'c/labels.npy').read_bytes() == before
    with pytest.raises(SystemExit, match='must contain either cifar-10-batches-py or cifar-100-python'):
        main([str(tmp_path), str(tmp_path / 'd')])
