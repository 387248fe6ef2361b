"""How close a stored teacher is to the exact one: the distribution, and the gradient that a student gets from it."""

from __future__ import annotations

import torch
from torch import Tensor

from data.distillation.signal import TeacherSignal, TopKSignal
from models.losses.divergences import divergence_rows
from models.losses.teacher_rows import TeacherRows

TEMPERATURES = (1.0, 1.5, 2.0, 4.0)


def _symbols(logits: Tensor, signal: TopKSignal, temperature: float) -> Tensor:
    """[N, k + 1] logits at T: the stored tokens and the log-mass of everything else, times T."""
    kept = logits.gather(1, signal.ids)
    rest = logits.scatter(1, signal.ids, -torch.inf)
    return torch.cat([kept, temperature * torch.logsumexp(rest / temperature, 1, keepdim=True)], 1)


def stored_gradient(
    kind: str, student: Tensor, signal: TeacherSignal, temperature: float, tail: str = "shaped"
) -> Tensor:
    """[N, V] gradient of ``kind`` ("kl" or "jsd") on the student's logits when the teacher is ``signal``.

    tail: how a top-k signal is read, "shaped" (dense, by the mean logits) or "bucket" (k + 1 symbols).
    """
    if isinstance(signal, TopKSignal) and tail == "bucket":
        student = student.detach().clone().requires_grad_()
        mine = _symbols(student, signal, temperature)
        stored = signal.tail_log_mass_at(temperature).unsqueeze(1).to(student.dtype) * temperature
        teacher = torch.cat([signal.logits.to(student.dtype), stored], 1)
        _, gradient = divergence_rows(kind, mine.detach(), teacher, temperature)
        return torch.autograd.grad(mine, student, gradient)[0]
    rows = TeacherRows(signal, temperature)(0, len(student)).to(student.dtype)
    return divergence_rows(kind, student, rows, temperature)[1]


def fidelity(
    exact: Tensor, signal: TeacherSignal, student: Tensor, temperature: float, tail: str = "shaped"
) -> dict[str, float]:
    """Sums over the N rows, to be divided by N: kl and jsd (nats, without the factor T^2, teacher first) between exact
    and stored; top1, the rows whose most probable token agrees; and for both divergences the cosine of the gradients
    and the ratio of their norms, stored to exact, each row by itself.

    exact, student [N, V] logits. For a bucketed top-k the divergences are those of the k + 1 symbols.
    """
    exact, student = exact.double(), student.double()
    if isinstance(signal, TopKSignal) and tail == "bucket":
        stored = torch.cat([signal.logits, temperature * signal.tail_log_mass_at(temperature).unsqueeze(1)], 1).double()
        reference = _symbols(exact, signal, temperature)
        same_top = signal.ids[:, 0] == exact.argmax(1)
    else:
        stored, reference = TeacherRows(signal, temperature)(0, len(exact)).double(), exact
        same_top = stored.argmax(1) == exact.argmax(1)
    result = {"top1": float(same_top.sum())}
    for kind in ("kl", "jsd"):
        value, _ = divergence_rows(kind, stored, reference, temperature)
        result[kind] = float(value.sum()) / temperature**2
        _, right = divergence_rows(kind, student, exact, temperature)
        got = stored_gradient(kind, student, signal, temperature, tail)
        result[f"{kind}_gradient_cosine"] = float(torch.cosine_similarity(right, got, dim=1, eps=1e-30).sum())
        result[f"{kind}_gradient_ratio"] = float((got.norm(dim=1) / right.norm(dim=1).clamp_min(1e-30)).sum())
    return result
