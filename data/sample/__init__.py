"""The Java templates of the sample project."""
