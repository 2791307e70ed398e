"""Does every trained parameter get a gradient, and is ``find_unused_parameters`` what that asks for?"""

from protuning_mm.doctor.case import Case
from protuning_mm.doctor.findings import Finding, Findings, first_few
from protuning_mm.doctor.trial import Trial


def check_gradients(case: Case, trials: list[Trial]) -> Findings:
    """Compare what one step showed with what DistributedDataParallel will be told.

    Args:
        case (Case): The config.
        trials (list[Trial]): Steps that ran; with none nothing is said of gradients.
    """
    if not trials:
        return
    key, told = _told(case)
    # what any of the steps reached is used
    unused = [name for name in trials[0].without_gradient if all(name in t.without_gradient for t in trials)]
    if told and not unused:
        yield Finding(
            'warning',
            key,
            'True, but every trained parameter got a gradient in a trial step: the search through the graph in each '
            'step finds nothing',
            f'{key}=False',
        )
    elif unused and not told:
        yield Finding(
            'error' if case.distributed else 'warning',
            key,
            f'{len(unused)} trained parameters got no gradient in a trial step: {first_few(unused)}. '
            + ('Distributed training stops at its second step' if case.distributed else 'One process does not mind'),
            f'freeze them, or leave out what makes them; {key}=True only where a step uses now these, now those',
        )
    elif unused:
        yield Finding('info', key, f'True, and {len(unused)} parameters got no gradient: {first_few(unused)}')
    single = sorted({name for trial in trials for name in trial.single})
    if single and case.batch_size == 1 and case.gpus == 1:
        yield Finding(
            'error',
            'train_dataloader.batch_size',
            f'with one image {first_few(single)} see one value a channel: batch norm refuses that in training',
            'a batch_size of 2 or more',
        )


def _told(case: Case) -> tuple[str, bool]:
    wrapper = case.cfg.get('model_wrapper_cfg') or {}
    if 'find_unused_parameters' in wrapper:
        return 'model_wrapper_cfg.find_unused_parameters', bool(wrapper['find_unused_parameters'])
    return 'find_unused_parameters', bool(case.cfg.get('find_unused_parameters', False))
