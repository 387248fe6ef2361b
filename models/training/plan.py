"""What holds at which optimiser step: learning rate, temperature, alpha."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from config.defaults import OptimizationConfig
from config.schedules import AlphaController, lr_lambda, warmup_step_count
from models.multi_component_loss import LossProgress


def no_softening(fraction: float) -> float:
    """The temperature of a training without a teacher."""
    return 1.0


class Plan:
    """The steps of a run and the schedules over them.

    temperature: share of the steps done (0 to 1) -> T. alpha: None where the loss has no alpha.
    """

    def __init__(
        self,
        settings: OptimizationConfig,
        steps_per_epoch: Sequence[int],
        temperature: Callable[[float], float],
        alpha: AlphaController | None,
    ) -> None:
        self.steps_per_epoch = list(steps_per_epoch)
        self.temperature = temperature
        self.alpha = alpha
        self.total_steps = sum(steps_per_epoch)
        # The schedules span all epochs, even where --max_steps ends the run earlier.
        self.last_step = min(self.total_steps, settings.max_steps or self.total_steps)
        self.warmup_steps = warmup_step_count(self.total_steps, settings.warmup_steps, settings.warmup_ratio)
        self._peak = settings.lr
        self._lr_factor = lr_lambda(self.total_steps, self.warmup_steps, settings.lr_floor_ratio)

    def learning_rate(self, step: int) -> float:
        """The learning rate of the step that follows ``step`` steps."""
        return self._peak * self._lr_factor(step)

    def loss_progress(self, step: int) -> LossProgress:
        """Temperature, alpha and share of the steps done, for the step that follows ``step`` steps."""
        fraction = step / max(1, self.total_steps)
        if self.alpha is None:
            return LossProgress(fraction, self.temperature(fraction))
        return LossProgress(fraction, self.temperature(fraction), self.alpha.value(fraction))

    def final_progress(self) -> LossProgress:
        """The end of the schedules. Every validation uses it, so that its loss can be compared over the run."""
        if self.alpha is None:
            return LossProgress(1.0, self.temperature(1.0))
        return LossProgress(1.0, self.temperature(1.0), self.alpha.alpha)

    def epochs_done(self, epoch: int, window: int) -> float:
        """Epochs done after ``window`` steps of ``epoch``, as the logs count them."""
        return epoch + window / self.steps_per_epoch[min(epoch, len(self.steps_per_epoch) - 1)]
