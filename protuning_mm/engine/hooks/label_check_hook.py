"""Whether the classes of a run occur in its data, told before the first step."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from protuning_mm.data import DataError
from protuning_mm.data.ignored_label import ignored_differently
from protuning_mm.data.label_counts import SAMPLE, count_labels
from protuning_mm.data.label_faults import faults_of_labels
from protuning_mm.engine.unwrap import unwrap


class LabelCheckHook(Hook):
    """Counts labels of the training and validation data in a sample, before anything else looks at the data.

    - before training: classes that never occur are warned of; where none or, in label maps, only one occurs, the run
      stops.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        for where, said, advice in ignored_differently(
            unwrap(runner.model), runner.train_dataloader.dataset, 'train_dataloader.dataset'
        ):
            raise DataError(f'{where}={said}. To change: {advice}')
        loaders = dict(train_dataloader=runner.train_dataloader)
        if runner.val_loop is not None:
            loaders['val_dataloader'] = runner.val_dataloader
        for name, loader in loaders.items():
            key = f'{name}.dataset'
            try:
                found = count_labels(loader.dataset, SAMPLE)
                faults = [] if found is None else list(faults_of_labels(found, key))
            except DataError:
                raise
            except Exception as error:  # of a data set that works in ways of its own: no reason to stop
                runner.logger.warning(f'{key}: its labels could not be counted: {type(error).__name__}: {error}')
                continue
            for level, said, advice in faults:
                if level == 'error':
                    raise DataError(f'{key}: {said}. To change: {advice}')
                runner.logger.warning(f'{key}: {said}. To change: {advice}')
