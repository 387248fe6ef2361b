"""Students that have left home: exported to an engine that runs them without torch."""
