"""Java projects to tasks: a test without one assertion, the method under test, the assertion."""
