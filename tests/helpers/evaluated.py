"""An evaluation made from systems whose right answers are known by construction."""

import numpy as np

from data.rows.readers import Sample
from evaluation.reports.results import build_summary, judge, make_task_rows
from evaluation.running.outcomes import Outcome, summarise
from evaluation.systems.models import System

N = 24
HOSTILE = '</script><script>alert("x")</script> & <b>'


def samples(n=N):
    rows = []
    for index in range(n):
        kind = ("assertEquals", "assertTrue")[index % 2]
        text = f"assertEquals({index}, box.get{index}());" if index % 2 == 0 else f"assertTrue(box.is{index}());"
        source = {"test_class": f"p.Box{index % 12}Test", "test_name": f"test{index}", "assertion_kind": kind}
        rows.append(
            Sample(f"void t() {{ Box box = new Box(); <AssertPlaceHolder> }} // {HOSTILE}", "f()", (text,), source)
        )
    return rows


class LetterEncoder:
    def encode(self, texts):
        vectors = (
            np.array([[text.count(chr(97 + letter)) for letter in range(26)] for text in texts], dtype=float) + 0.1
        )
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def system(title, right, n=N, accuracy=0.5):
    tasks = samples(n)
    texts = [task.target if index < right else f"assertNull(other{index});" for index, task in enumerate(tasks)]
    values = np.full(n, accuracy)
    return System(title, texts, None, {"token_accuracy": values, "critical_token_accuracy": values}, {}, {})


def outcomes(passed, n=N):
    good, bad = Outcome("passed", "", True, True, True), Outcome("failed", "expected 1", True, False, False)
    return [good if index < passed else bad for index in range(n)]


def evaluate(student=16, no_teacher=10, run=None, execution=True):
    tasks = samples()
    facts = {
        "parameters": 1000,
        "size_bytes": 4000,
        "loss": 0.5,
        "memory_bytes": {"cpu": 2**20},
        "latency": {"cpu": {"median_seconds": 0.1, "p90_seconds": 0.2, "n": 3, "threads": 1}},
    }
    judged = {}
    for name, right in (("teacher", 20), ("student", student), ("no_teacher", no_teacher), ("retrieval", 4)):
        one = system(name, right)
        one.facts = facts if name != "retrieval" else {}
        judged[name] = judge(one, tasks, LetterEncoder(), 0, outcomes(right) if execution else None)
    facts = {
        "tasks": N,
        "teacher_data": "data.jsonl",
        "test_classes": 12,
        "rows_left_out": {},
        "arguments": {"num_beams": 1},
    }
    if execution:
        facts["execution"] = {name: summarise(one.outcomes) for name, one in judged.items()}
    logits = {
        "top1_agreement": {"value": 0.9, "low": 0.8, "high": 1.0, "n": N},
        "kl_t4": {"value": None, "reason": "no tail"},
    }
    summary = build_summary(judged, {"trivial": "left out"}, {**facts, **(run or {})}, logits)
    return summary, make_task_rows(tasks, judged)
