"""The declarations of the JDK's public API, so that types of expressions are known without a JDK.

``jdk_api.java.xz`` holds one line of Java for each top-level type: what ``java data/java/WriteJdkApi.java`` prints.
"""

from __future__ import annotations

import lzma
import re
from functools import lru_cache
from pathlib import Path

API = Path(__file__).with_name("jdk_api.java.xz")
TYPE_NAME = re.compile(r"\b(?:class|interface|enum|record) (\w+)")
HEAD = re.compile(r"package ([\w.]+); (?:abstract |static )*(?:class|interface) (\w+)")


@lru_cache(maxsize=1)
def _read_types() -> dict[str, str]:
    lines = lzma.decompress(API.read_bytes()).decode().splitlines()
    heads = ((HEAD.match(line), line) for line in lines)
    return {f"{head[1]}.{head[2]}": line for head, line in heads if head is not None}


def find_declaration(qualified: str) -> str:
    """The line that declares a top-level type such as ``java.util.List``, or the empty string."""
    return _read_types().get(qualified, "")


@lru_cache(maxsize=1)
def list_imported_types() -> frozenset[str]:
    """The simple names of the types in java.lang, which no file has to import."""
    split = (qualified.rpartition(".") for qualified in _read_types())
    return frozenset(name for package, _, name in split if package == "java.lang")


@lru_cache(maxsize=1)
def list_type_names() -> frozenset[str]:
    """The simple names of all types of the JDK's public API."""
    return frozenset(name for line in _read_types().values() for name in TYPE_NAME.findall(line))


@lru_cache(maxsize=1)
def list_method_names() -> frozenset[str]:
    """The names of all methods of the JDK's public API."""
    return frozenset(name for line in _read_types().values() for name in re.findall(r"(\w+)\(", line))
