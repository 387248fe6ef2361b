"""Ground floor: errors, files, devices, seeds, logs, pages. Imports nothing else of the project."""
