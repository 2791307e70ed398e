"""Pictures of what a run did: its prompts, its curves, its classes. Numbers are computed apart from drawing."""
