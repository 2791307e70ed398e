"""Whether the classes of a run occur in its data, told before the first step."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from protuning_mm.datasets import DataError
from protuning_mm.datasets.label_counts import SAMPLE, count_labels
from protuning_mm.datasets.label_faults import faults_of_labels


class LabelCheckHook(Hook):
    """Counts labels of the training and validation data in a sample, before anything else looks at the data.

    - before training: classes that never occur are warned of; where none or, in label maps, only one occurs, the run
      stops.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        loaders = dict(train_dataloader=runner.train_dataloader)
        if runner.val_loop is not None:
            loaders['val_dataloader'] = runner.val_dataloader
        for name, loader in loaders.items():
            key = f'{name}.dataset'
            found = count_labels(loader.dataset, SAMPLE)
            for level, said, advice in faults_of_labels(found, key) if found is not None else ():
                if level == 'error':
                    raise DataError(f'{key}: {said}. To change: {advice}')
                runner.logger.warning(f'{key}: {said}. To change: {advice}')
