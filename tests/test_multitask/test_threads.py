"""Threads send requests while another thread adds, removes and swaps tasks."""

import random
import threading
from collections import Counter
from typing import Any

import pytest

from protuning_mm.multitask import MultiTask
from protuning_mm.multitask.errors import MultiTaskError
from tests.families import flat
from tests.test_multitask.tasks import Workshop

REQUESTS = 80  # of each of four threads
CHANGES = 30


@pytest.mark.parametrize('joint', ['auto', True])
def test_requests_during_changes(joint: Any, workshop: Workshop) -> None:
    """A swapped task answers like its old or its new version; the answers of the other tasks never change."""
    made = {
        'seg': workshop.task('seg', seed=0),
        'cls': workshop.task('cls', 'lora', seed=1),
        'first': workshop.task('cls', seed=2),
        'second': workshop.task('cls', dict(type='pro', prompt_stages=[3]), seed=3),
    }
    expected: dict[str, dict[str, Any]] = {}
    for name, task in made.items():
        single = MultiTask()
        single.add('it', *task)
        expected[name] = {image: single.features(dict(it=image))['it'][0] for image in workshop.images}
    multitask = MultiTask(joint=joint)
    for name in ('seg', 'cls'):
        multitask.add(name, *made[name])
    multitask.add('swapped', *made['first'])
    errors: list[BaseException] = []
    seen: Counter[str] = Counter()

    def ask(seed: int) -> None:
        draw = random.Random(seed)
        try:
            for _ in range(REQUESTS):
                names = draw.sample(['seg', 'cls', 'swapped', 'guest'], draw.randint(1, 3))
                asked = {name: draw.sample(workshop.images, draw.randint(1, 2)) for name in names}
                try:
                    found = multitask.features(asked)
                    multitask.predict({name: images[:1] for name, images in asked.items() if name != 'guest'})
                except MultiTaskError as error:
                    assert "no task 'guest'" in str(error)
                    seen['no guest'] += 1
                    continue
                for name, images in asked.items():
                    may_be = {'swapped': ('first', 'second'), 'guest': ('second',)}.get(name, (name,))
                    for image, features in zip(images, found[name], strict=True):
                        right = [one for one in may_be if same(features, expected[one][image])]
                        assert right, f'{name} on {image} is none of {may_be}'
                        seen[f'{name}: {right[0]}'] += 1
        except BaseException as error:
            errors.append(error)

    def change() -> None:
        try:
            for i in range(CHANGES):
                multitask.swap('swapped', *made['second' if i % 2 == 0 else 'first'])
                if i % 2:
                    multitask.remove('guest')
                else:
                    multitask.add('guest', *made['second'])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)] + [threading.Thread(target=change)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    assert {'seg: seg', 'cls: cls', 'swapped: first', 'swapped: second', 'guest: second'} <= set(seen), seen
    keys = multitask.task('seg').backbone.frozen_keys
    resident = dict(multitask.task('seg').backbone.frozen_tensors())
    for key in keys:
        assert multitask.task('swapped').backbone.frozen_tensors()[key].data_ptr() == resident[key].data_ptr()


def same(found: Any, expected: Any) -> bool:
    return all(
        bool((a - b).abs().max() <= 1e-5 * b.abs().max()) for a, b in zip(flat(found), flat(expected), strict=True)
    )
