"""Every parameter: defaults, command line, checks, presets, schedules. Imports utils only."""
