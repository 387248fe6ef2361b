"""An exported model as a Writer (models/decoding/generate.py).

The engine knows no constraints. It writes freely, and its beams that follow them come first. Where those do not
suffice, a beam is cut before the first token that breaks a rule, the best token that is allowed is put there, and the
engine continues from it, one token at a time. So greedy decoding gives what constrained greedy decoding in torch does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedTokenizerBase

from data.batches.collate import IGNORED, Batch
from data.java.scope import JavaScope
from data.rows.tokenization import TextFormat
from models.decoding.constraints.build import build_constraints
from models.decoding.generate import GenerationOptions, rank_texts
from models.exported.engine import PATIENCE, import_engine, require_quantization
from models.exported.folder import VOCABULARY_FILE, ExportNote
from utils.errors import UserError

Ids = list[int]
SCORED_AT_ONCE = 8  # each text has an input of its own: more of them only leave the processor's cache


class ExportedWriter:
    """The engine on the files of a folder."""

    steers = False

    def __init__(
        self, folder: Path, note: ExportNote, tokenizer: PreTrainedTokenizerBase, device: str, flag: str
    ) -> None:
        self.tokenizer = tokenizer
        self.text_format = TextFormat.read(note.text_format)
        self.vocab_size = note.vocab_size
        self._folder, self._note, self._flag = folder, note, flag
        self._names: list[str] = json.loads((folder / VOCABULARY_FILE).read_text(encoding="utf-8"))
        self._ids = {name: index for index, name in enumerate(self._names)}
        self.to(device)

    @property
    def device(self) -> torch.device:
        return self._device

    def to(self, device: str) -> None:
        self._device = torch.device(device)
        if self._device.type not in ("cpu", "cuda"):
            raise UserError(f"--device {device}: an exported model runs on cpu or cuda")
        require_quantization(self._note.quantization, device, f"{self._flag}: quantization")
        try:
            self._engine = import_engine().Translator(
                str(self._folder),
                device=self._device.type,
                device_index=self._device.index or 0,
                compute_type=self._note.quantization,
                inter_threads=1,
                intra_threads=torch.get_num_threads(),
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{self._flag}: the engine cannot load {self._folder} ({error})") from None

    def write(
        self, rows: Sequence[Sequence[int]], options: GenerationOptions, scopes: Sequence[JavaScope | None] = ()
    ) -> list[list[str]]:
        if options.decoding == "free":
            found = [ids for ids, _ in self._run(rows, options)]
        elif options.num_beams == 1:
            found = [[ids] for ids in self._continue(rows, [[] for _ in rows], options, scopes)]
        else:
            found = self._choose(rows, [ids for ids, _ in self._run(rows, options)], options, scopes)
        texts = self.tokenizer.batch_decode(
            [ids for beams in found for ids in beams], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        place = iter(texts)
        return [rank_texts([next(place) for _ in beams], options) for beams in found]

    def logits(self, batch: Batch) -> Tensor:
        masks, labels = batch["attention_mask"].bool(), batch["labels"]
        rows = [ids[mask].tolist() for ids, mask in zip(batch["input_ids"], masks, strict=True)]
        targets = [ids[ids != IGNORED].tolist() for ids in labels]
        options = GenerationOptions(max_output_len=labels.shape[1], num_beams=1)
        logits = torch.zeros(*labels.shape, self.vocab_size)
        for place, (_, found) in enumerate(self._run(rows, options, targets)):
            length = min(len(found), len(targets[place]))
            logits[place, :length] = found[:length]
        return logits

    def log_likelihoods(self, row: Sequence[int], texts: Sequence[Sequence[int]]) -> list[list[float]]:
        end = self.tokenizer.eos_token_id
        whole = [list(ids[:-1] if ids and ids[-1] == end else ids) for ids in texts]  # the engine adds the end
        results = self._engine.score_batch(
            [self._spell(row)] * len(texts),
            [self._spell(ids) for ids in whole],
            max_batch_size=SCORED_AT_ONCE,
            max_input_length=0,
        )
        return [result.log_probs[: len(ids)] for result, ids in zip(results, texts, strict=True)]

    def _run(
        self, rows: Sequence[Sequence[int]], options: GenerationOptions, begun: Sequence[Ids] | None = None
    ) -> list[tuple[list[Ids], Tensor]]:
        """For each row the ids of its beams, best first, each with its end token if it has come to one.

        With ``begun``, which a single beam then continues, also the logits [T, V] at each token, those of ``begun``
        included.
        """
        beams = 1 if begun is not None else options.num_beams
        results = self._engine.translate_batch(
            [self._spell(row) for row in rows],
            target_prefix=None if begun is None else [self._spell(ids) for ids in begun],
            beam_size=beams,
            patience=PATIENCE if beams > 1 else 1.0,
            num_hypotheses=beams,
            max_decoding_length=options.max_output_len,
            min_decoding_length=0,
            max_input_length=0,
            return_end_token=True,
            return_logits_vocab=begun is not None,
        )
        return [
            (
                [[self._ids[name] for name in names] for names in result.hypotheses],
                self._stack(result.logits[0]) if begun is not None else torch.empty(0),
            )
            for result in results
        ]

    def _spell(self, ids: Sequence[int]) -> list[str]:
        return [self._names[index] for index in ids]

    def _stack(self, views: Sequence[Any]) -> Tensor:
        engine = import_engine()
        on_cpu = (view.to_device(engine.Device.cpu) if self._device.type == "cuda" else view for view in views)
        return torch.from_numpy(np.stack([np.array(view, dtype=np.float32) for view in on_cpu]))

    def _constraints(
        self,
        rows: Sequence[Sequence[int]],
        options: GenerationOptions,
        scopes: Sequence[JavaScope | None],
        places: Sequence[int],
    ) -> LogitsProcessorList:
        """For texts that belong to the rows at these places."""
        return build_constraints(
            options.decoding,
            self.tokenizer,
            [rows[place] for place in places],
            1,
            vocab_size=self.vocab_size,
            end_ids=[self.tokenizer.eos_token_id],
            longest=options.max_output_len,
            scopes=[scopes[place] for place in places] if scopes else (),
        )

    def _choose(
        self,
        rows: Sequence[Sequence[int]],
        found: list[list[Ids]],
        options: GenerationOptions,
        scopes: Sequence[JavaScope | None] = (),
    ) -> list[list[Ids]]:
        """Of each row's beams those that follow the rules, then as many mended ones as are still needed."""
        beams = [(place, ids) for place, of_row in enumerate(found) for ids in of_row]
        constraints = self._constraints(rows, options, scopes, [place for place, _ in beams])
        breaks = self._find_breaks(constraints, [ids for _, ids in beams])
        chosen: list[list[Ids]] = [[] for _ in rows]
        for (place, ids), broken in zip(beams, breaks, strict=True):
            if broken is None:
                chosen[place].append(ids)
        mended: list[tuple[int, Ids]] = []
        fewest = options.num_return_sequences if options.fewest is None else options.fewest
        wanted = [fewest - len(of_row) for of_row in chosen]
        for (place, ids), broken in zip(beams, breaks, strict=True):
            if broken is not None and wanted[place] > 0:
                wanted[place] -= 1
                mended.append((place, ids[: broken[0]]))
        places = [place for place, _ in mended]
        some = [scopes[place] for place in places] if scopes else ()
        texts = self._continue([rows[place] for place in places], [ids for _, ids in mended], options, some)
        for place, ids in zip(places, texts, strict=True):
            chosen[place].append(ids)
        return chosen

    def _continue(
        self,
        rows: Sequence[Sequence[int]],
        begun: Sequence[Ids],
        options: GenerationOptions,
        scopes: Sequence[JavaScope | None],
    ) -> list[Ids]:
        """Each beginning, continued by the most likely tokens that follow the rules."""
        texts = list(begun)
        going = list(range(len(rows)))
        while going:
            results = self._run([rows[i] for i in going], options, [texts[i] for i in going])
            written = [beams[0] for beams, _ in results]
            constraints = self._constraints(rows, options, scopes, going)
            starts = [len(texts[i]) for i in going]
            breaks = self._find_breaks(constraints, written, [logits for _, logits in results], starts)
            for i, ids, broken in zip(going, written, breaks, strict=True):
                texts[i] = ids if broken is None else [*ids[: broken[0]], broken[1]]
            whole = [broken is None or broken[1] == self.tokenizer.eos_token_id for broken in breaks]
            going = [
                i for i, done in zip(going, whole, strict=True) if not done and len(texts[i]) < options.max_output_len
            ]
        return texts

    @torch.inference_mode()
    def _find_breaks(
        self,
        constraints: LogitsProcessorList,
        texts: Sequence[Ids],
        logits: Sequence[Tensor] | None = None,
        starts: Sequence[int] | None = None,
    ) -> list[tuple[int, int] | None]:
        """Where each text first breaks a rule, and the best token there; None for one that breaks none.

        With the ``logits`` [T, V] of each text, from ``starts`` on: where a token is not the best of those allowed.
        """
        longest = max(map(len, texts), default=0)
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[self._note.start_id, *text, *[pad] * (longest - len(text))] for text in texts])
        breaks: list[tuple[int, int] | None] = [None] * len(texts)
        for step in range(min(starts or [0], default=0), longest):
            scores = torch.zeros(len(texts), self.vocab_size)
            next_ids = ids[:, step + 1]
            if logits is None:
                scores.scatter_(1, next_ids[:, None], 1e3)  # a constraint may look at the likeliest token alone
            for place, given in enumerate(logits or ()):
                if step < len(given):
                    scores[place] = given[step]
            allowed = scores
            for constraint in constraints:  # the list itself looks at the signature of each, at each step
                allowed = constraint(ids[:, : step + 1], allowed)  # type: ignore[arg-type,assignment]
            best = allowed.argmax(-1)
            wrong = best != next_ids
            for place in wrong.nonzero()[:, 0].tolist():
                begun = starts[place] if starts is not None else 0
                if breaks[place] is None and begun <= step < len(texts[place]):
                    breaks[place] = step, int(best[place])
            if None not in breaks:
                break
        return breaks
