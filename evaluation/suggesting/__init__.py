"""From a project's open tests to suggested assertions: targets, candidates, verdicts, and how they are shown."""
