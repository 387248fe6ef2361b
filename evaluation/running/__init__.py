"""Compiles and runs predictions in the Java tests that they belong to."""
