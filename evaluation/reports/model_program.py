"""The program in a model card: it loads the model and lets it write, without this repository."""

from __future__ import annotations

from data.rows.tokenization import NEAREST_MARK, TaskEncoder
from models.exported.engine import PATIENCE

EXAMPLE_TEST = "@Test public void pops() { Stack stack = new Stack(); stack.push(7); <AssertPlaceHolder> }"
EXAMPLE_METHOD = "public int pop() { return items[--count]; }"
EXAMPLE_NEAREST = "assertEquals(1, stack.size());"
EXAMPLE_CONTEXT = f"{EXAMPLE_NEAREST} // pushes"

TRANSFORMERS = """import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

folder = "."  # this folder, or the model's name on the hub
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


def ids_of(text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


{build_input}

ids = torch.tensor([build_input({example})])
output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), num_beams=4, max_new_tokens={output_len})
print(tokenizer.decode(output[0], skip_special_tokens=True, clean_up_tokenization_spaces=False))
"""

CTRANSLATE2 = """import ctranslate2
from tokenizers import Tokenizer

folder = "."  # this folder
tokenizer = Tokenizer.from_file(f"{{folder}}/tokenizer.json")
model = ctranslate2.Translator(folder, compute_type="{quantization}")


def ids_of(text):
    return tokenizer.encode(text, add_special_tokens=False).ids


{build_input}

tokens = [tokenizer.id_to_token(i) for i in build_input({example})]
written = model.translate_batch(
    [tokens], beam_size=4, patience={patience}, max_decoding_length={output_len}, max_input_length=0
)
print(tokenizer.decode([tokenizer.token_to_id(token) for token in written[0].hypotheses[0]]))
"""

BUILD_INPUT = """def build_input(test, method):
    before, after = test.split("<AssertPlaceHolder>")
    ids = [*ids_of(before), *ids_of("<AssertPlaceHolder>"), *ids_of(after), {separator}, *ids_of(method)]
    return [{begin}*ids[:{room}], {end}]
"""

# The context as TaskEncoder lays it out: whole lines, the most useful first, as many as fit.
BUILD_INPUT_WITH_CONTEXT = """def build_input(test, method, {parameter}context=()):
    # {about}context: lines such as other assertions of the class, variables with their types, signatures
    before, after = test.split("<AssertPlaceHolder>")
    ids = [*ids_of(before), *ids_of("<AssertPlaceHolder>"), *ids_of(after), {separator}, *ids_of(method)]
    apart = {apart}{limit_apart}
    lines = []
    for line in context:
        more = [*(lines and ids_of("\\n")), *ids_of(line)]
        if len(lines) + len(more) + len(apart) >= {context_len}:
            break
        lines += more
    lines = [*([{separator}, *lines] if lines else []), *apart]
    return [{begin}*ids[:{room} - len(lines)], *lines, {end}]
"""


def write_program(encoder: TaskEncoder, max_input_len: int, max_output_len: int, quantization: str | None) -> str:
    """The program for a model in transformers, or, with the ``quantization`` of an export, in CTranslate2."""
    begin, end = encoder.frame
    with_context, apart = bool(encoder.format.context), encoder.format.shows_nearest_apart
    mark = ", ".join(map(str, [*[encoder.separator] * NEAREST_MARK, *begin]))
    build_input = (BUILD_INPUT_WITH_CONTEXT if with_context else BUILD_INPUT).format(
        separator=encoder.separator,
        begin="".join(f"{index}, " for index in begin),
        end=", ".join(map(str, end)),
        room=max_input_len - len(begin) - len(end),
        context_len=encoder.format.max_context_tokens,
        parameter='nearest="", ' if apart else "",
        about="nearest: the assertion of the most similar test; " if apart else "",
        apart=f"[{mark}, *ids_of(nearest)] if nearest else []" if apart else "[]",
        limit_apart=f"\n    if len(apart) >= {encoder.format.max_context_tokens}:\n        apart = []" if apart else "",
    )
    arguments = [f'"{EXAMPLE_TEST}"', f'"{EXAMPLE_METHOD}"']
    if with_context:
        arguments.append(f'"{EXAMPLE_NEAREST}"' if apart else f'["{EXAMPLE_CONTEXT}"]')
    text = (TRANSFORMERS if quantization is None else CTRANSLATE2).format(
        build_input=build_input,
        example="".join(f"\n    {text}," for text in arguments) + "\n",
        output_len=max_output_len,
        quantization=quantization,
        patience=PATIENCE,
    )
    return f"```python\n{text}```"
