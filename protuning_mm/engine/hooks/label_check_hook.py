"""A hook that checks before training whether the classes of a run occur in its data."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from protuning_mm.data import DataError
from protuning_mm.data.ignore_index import find_ignore_index_conflicts
from protuning_mm.data.label_counts import SAMPLE, count_labels
from protuning_mm.data.label_faults import find_label_faults
from protuning_mm.engine.unwrap import unwrap


class LabelCheckHook(Hook):
    """Counts the labels in a sample of the training and validation data, before any other check of the data.

    It warns of classes that never occur, and stops the run if no class or, in label maps, only one class occurs.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        for where, said, advice in find_ignore_index_conflicts(
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
                faults = [] if found is None else list(find_label_faults(found, key))
            except DataError:
                raise
            except Exception as error:  # a custom data set may not support counting, which must not stop the run
                runner.logger.warning(f'{key}: its labels could not be counted: {type(error).__name__}: {error}')
                continue
            for level, said, advice in faults:
                if level == 'error':
                    raise DataError(f'{key}: {said}. To change: {advice}')
                runner.logger.warning(f'{key}: {said}. To change: {advice}')
