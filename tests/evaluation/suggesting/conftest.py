"""What asks javac, for the tests of places and of candidates."""

from __future__ import annotations

import pytest

from evaluation.running.class_path import ClassPath
from evaluation.running.jdk import find_jdk
from evaluation.suggesting.scope import ScopeService
from tests.helpers.java_project import junit_jars, need_jdk


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    need_jdk()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        with ScopeService(find_jdk(), ClassPath((), tuple(junit_jars()))) as found:
            yield found
