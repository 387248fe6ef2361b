#!/usr/bin/env python
"""Export a trained model to an engine that runs it without torch, many times faster on a CPU.

    python scripts/export_student.py results/run_name/final_model --quantization int8

The exported folder holds the engine's files, the tokenizer and a card. Both models write for rows of the validation
data; what they agree in stands in export.json and in the card, and an export that is clearly worse is refused.
evaluate_assertions.py and suggest_assertions.py take the folder like any model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config.defaults import DataConfig, ValidationConfig
from utils.arguments import ArgumentParser
from utils.errors import UserError, run_main

NO_ONNX = (
    "--format onnx: no maintained exporter supports transformers 5 (optimum-onnx 0.1 needs one below 4.58); use"
    " --format ctranslate2"
)


def build_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("model", metavar="MODEL", help="folder of a trained model, such as results/run_name/final_model")
    add("--format", choices=["ctranslate2", "onnx"], default="ctranslate2", help="the engine (default %(default)s)")
    add("--quantization", choices=["int8", "float32"], default="int8", help="of the weights (default %(default)s)")
    add("--output", type=Path, metavar="DIR", help="default: MODEL with the format and quantization behind its name")
    add("--overwrite", action="store_true", help="replace the output folder")
    add("--val_data_path", metavar="FILE", help="rows to compare on (default: the validation data of MODEL's run)")
    add("--val_samples", type=int, default=100, metavar="N", help="so many of them (default %(default)d)")
    add("--num_beams", type=int, default=4, help="beams of the comparison (default %(default)d)")
    add(
        "--embedding_model",
        default=ValidationConfig.embedding_model,
        help="text encoder of the Code Quality Score; embedded:minilm needs no network, none leaves the score out",
    )
    add("--allow_worse", action="store_true", help="keep an export that is worse than the bounds")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.format == "onnx":
        raise UserError(NO_ONNX)
    for flag in ("val_samples", "num_beams"):
        if getattr(args, flag) < 1:
            raise UserError(f"--{flag} {getattr(args, flag)}: allowed: at least 1")
    output = args.output or Path(f"{args.model.rstrip('/')}_{args.format}_{args.quantization}")
    if output.exists() and not args.overwrite and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output {output}: there is something already; give --overwrite or another folder")

    from evaluation.reports.agreement import describe_agreement, find_shortfall, measure_agreement
    from evaluation.reports.model_card import write_export_card
    from evaluation.reports.run_data import read_json
    from evaluation.tasks import read_samples
    from models.decoding.generate import GenerationOptions
    from models.exported.convert import convert
    from models.exported.engine import import_engine, require_quantization
    from models.exported.folder import read_note, write_note
    from models.exported.loading import open_model
    from models.text_encoder.encoders import resolve_encoder
    from utils.atomic_io import atomic_directory
    from utils.sequences import take_evenly

    import_engine()
    require_quantization(args.quantization, "cpu", "--quantization")
    config = read_json(Path(args.model).expanduser().parent / "run_config.json").get("config", {})
    data = args.val_data_path or config.get("val_data_path")
    if not data:
        raise UserError("--val_data_path: MODEL's run does not name its validation data; give rows to compare on")
    samples = take_evenly(read_samples(data, "--val_data_path", 1.0).samples, args.val_samples)
    if not samples:
        raise UserError(f"--val_data_path {data}: no usable row")
    encoder = None if args.embedding_model == "none" else resolve_encoder(args.embedding_model)
    options = GenerationOptions(
        max_input_len=config.get("max_input_len", DataConfig.max_input_len),
        max_output_len=config.get("max_output_len", DataConfig.max_output_len),
        num_beams=args.num_beams,
    )
    model = open_model(args.model, "MODEL", "cpu", (options.max_input_len, options.max_output_len))
    with atomic_directory(output) as folder:
        convert(model, args.model, folder, args.quantization, options.max_input_len, options.max_output_len)
        found = measure_agreement(args.model, folder, data, samples, options, encoder)
        print(describe_agreement(found))
        worse = find_shortfall(found)
        if worse and not args.allow_worse:
            raise UserError(
                f"MODEL {args.model}: in {args.quantization}, {worse}; nothing was written; use --quantization float32,"
                " or keep it with --allow_worse"
            )
        note = replace(read_note(folder, args.model, "MODEL"), agreement=dict(found))
        write_export_card(folder, note, model.folder, found)
        write_note(folder, note)
    print(f"\nexported: {output}")
    return 0


if __name__ == "__main__":
    run_main(main)
