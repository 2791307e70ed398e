"""``protuning COMMAND …``: the console command, which runs one of the commands in this package."""

import sys
from collections.abc import Sequence
from importlib import import_module

# command: (module, function, help)
COMMANDS = {
    'train': ('train', 'main', 'train a model'),
    'test': ('test', 'main', 'evaluate a checkpoint or a delta'),
    'predict': ('predict', 'main', 'predict on images and draw the results'),
    'doctor': ('doctor', 'main', 'check a config, its model and its data before training'),
    'delta extract': ('convert_delta', 'main_extract', 'remove the frozen base from a checkpoint'),
    'delta merge': ('convert_delta', 'main_merge', 'join a delta and its base into a whole checkpoint'),
    'delta inspect': ('inspect_delta', 'main', 'show what a delta contains and which base it needs'),
    'push': ('push_delta', 'main', 'publish a delta on the Hugging Face Hub'),
    'pull': ('pull_delta', 'main', 'download a delta from the Hugging Face Hub'),
    'export': ('export', 'main', 'export a model to TorchScript, torch.export or ONNX'),
    'multitask': ('multitask', 'main', 'run several tasks on one backbone'),
    'serve': ('serve', 'main', 'serve many tasks on one backbone over HTTP'),
    'init': ('init_config', 'main', 'write a short config for a folder of data'),
    'data convert': ('convert_data', 'main', 'convert a data set of another tool'),
    'count-params': ('count_params', 'main', 'count trained and frozen parameters'),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first one or two arguments name.

    Exit status: 0 on success, 1 after an error, 2 if the command or its flags are wrong, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for length in (2, 1):
        name = ' '.join(words[:length])
        if len(words) >= length and name in COMMANDS:
            module, function, _ = COMMANDS[name]
            sys.argv[0] = f'protuning {name}'  # argparse shows this name
            getattr(import_module(f'protuning_mm.cli.{module}'), function)(words[length:])
            return
    width = max(map(len, COMMANDS))
    usage = '\n'.join(
        ['usage: protuning COMMAND …', '', *(f'  {name:{width}}  {text}' for name, (_, _, text) in COMMANDS.items())]
    )
    if words and words[0] in ('-h', '--help'):
        print(f'{usage}\n\nprotuning COMMAND --help shows the flags of a command.')
        return
    if words and words != ['delta']:
        print(f'protuning: there is no command {words[0]!r}', file=sys.stderr)
    print(usage, file=sys.stderr)
    raise SystemExit(2)


if __name__ == '__main__':
    main()
