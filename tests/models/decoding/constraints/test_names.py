"""Names of the input alone, against a search for names in the whole text."""

import re

import pytest
import torch
from transformers import LogitsProcessorList

from data.rows.context import Sibling
from data.rows.readers import Sample
from data.rows.tokenization import TaskEncoder, TextFormat
from models.decoding.constraints.names import NameConstraint, NameVocabulary, Place
from models.decoding.constraints.offered import ALWAYS, find_offered, read_inputs
from models.decoding.constraints.token_texts import token_texts
from models.decoding.generate import GenerationOptions, generate_candidates, pad_rows
from models.decoding.search import decode
from models.decoding.torch_writer import TorchWriter
from tests.helpers.pieces import Pieces
from tests.helpers.published import make_roberta_files
from tests.helpers.random_models import model_without_ties

INPUT = "public int total() { return total; } @Test public void t() { Cart cart = new Cart(); <AssertPlaceHolder> }"


@pytest.mark.parametrize(
    ("text", "ended", "name"),
    [
        ("assertEquals(3, car", ["assertEquals("], "car"),
        ("cart.total", ["cart."], None),
        ("Cart.of(Foo::bar", ["Cart.", "Foo"], None),
        ('f("x y", y ', ["f(", "y"], ""),
        ("f('\\'', 0x1f + a_$1", ["f("], "a_$1"),
        ("x ? y : z", ["x", "y"], "z"),
        ('"a\\" b', [], ""),
        ("new Cart", ["new"], "Cart"),
        ("1L - b.\n c", ["b."], None),
    ],
)
def test_names_are_told_from_members_classes_and_literals(text, ended, name):
    place, found = Place().after(text)
    assert (found, place.name) == (ended, name)
    for cut in range(len(text)):  # nothing depends on where a token ends
        first, before = Place().after(text[:cut])
        second, after = first.after(text[cut:])
        assert (second, before + after) == (place, found)


def test_an_input_offers_variables_of_the_test_and_what_is_called_without_a_receiver():
    test = '@Test public void t() { Cart cart = Shop.cart("a b"); all.add(cart); <AssertPlaceHolder> }'
    focal = "public int total(int rate) { int sum = 0; return add(sum, rate); }"
    other = "assertSame(theirs, Box.make(help(x))); // first"
    context = ["List<String> names = new ArrayList<>()", other, "A doc of r: sums.", "int n"]
    offered = find_offered("\n".join((test, focal, *context)))
    names = offered.names
    assert offered.classes and not find_offered(f"{test}\n{focal}").classes
    free = {name for name, follows in names.items() if not follows}
    assert {"cart", "names", "n", "Cart", "Shop", "List", "ArrayList", "String", "Box"} <= free
    called = {name for name, follows in names.items() if follows == "("}
    assert {"assertSame", "help", "t"} <= called
    assert names.keys().isdisjoint({"theirs", "x", "sum", "rate", "a", "b", "first", "r", "add", "total", "make"})
    assert {"add", "make", "cart"} & offered.methods == {"add", "make"}
    assert "total" in offered.never_empty and "t" not in offered.never_empty


def test_a_literal_that_is_cut_hides_no_name():
    test = 'st"); int alpha = 1; use("b", alpha); <AssertPlaceHolder> }'
    lines = [test, "int size() { }", "Returns the object's size", "int counter = 3", "String label = 'x'"]
    offered = find_offered("\n".join(lines))
    names = offered.names
    assert offered.classes and {"alpha", "counter", "label"} <= {name for name, follows in names.items() if not follows}
    assert "st" not in names and "b" not in names


def test_without_line_ends_all_names_of_the_context_count():
    offered = find_offered("void t() { }\nint size() { }\nint counter = 3 List<String> all other.size()")
    assert offered.classes and {"counter", "all", "other"} <= offered.names.keys()


def test_a_method_is_only_called_and_a_package_only_qualifies():
    pieces = Pieces("sum", "(", ")", ", ", "org", ".", "Box", "Hat", " (")
    context = "void t() { sum(); <AssertPlaceHolder> }\nint all() { }\nBox box\n"
    assert {"(", " ("} == allowed(pieces, "sum", context=context) & {"(", " (", ")", ", ", "."}
    assert {"."} == allowed(pieces, "org", context=context) & {"(", ")", ", ", "."}
    assert {"Box"} == allowed(pieces, context=context) & {"Box", "Hat"}


@pytest.mark.parametrize("frame", ["end", "tokenizer"])
def test_variables_of_the_nearest_assertion_are_no_names_of_this_test(tmp_path, frame):
    """It stands apart in the input, without a name behind it."""
    nearest: Sibling = {"assertion": "assertSame(theirs, Box.make(help(x)));", "test_name": "first"}
    other: Sibling = {"assertion": "assertTrue(more);", "test_name": "second"}
    sample = Sample(INPUT, "int size() { }", (), context={"siblings": [nearest, other]})
    tokenizer = make_roberta_files(tmp_path, [INPUT, sample.focal, nearest["assertion"]])
    encoder = TaskEncoder(tokenizer, TextFormat(frame, ("siblings",), nearest_apart=True))
    (text,) = read_inputs(tokenizer, [encoder.source(sample, 512)])
    names = find_offered(text).names.keys()
    assert {"cart", "assertSame", "help"} <= names
    assert names.isdisjoint({"theirs", "more", "x"})


def allowed(pieces: Pieces, *written: str, context: str = INPUT) -> set[str]:
    names = ["start", "end", *pieces.texts[2:]]
    constraint = NameConstraint(NameVocabulary(pieces, len(names)), [context], 1)
    ids = torch.tensor([[0, *(names.index(piece) for piece in written)]])
    scores = constraint(ids, torch.zeros(1, len(names)))[0].tolist()
    return {name for name, score in zip(names, scores, strict=True) if score == 0}


def test_only_names_of_the_input_are_written():
    pieces = Pieces("c", "art", "x", "(", ".", "Foo", "(x", "(c", "art.", "x.", "12", '"', "assertTrue", " ")
    begins = {"start", "end", "c", "(", ".", "Foo", "(c", "12", '"', "assertTrue", " "}
    assert allowed(pieces) == begins  # no name of the input begins with x or art
    assert allowed(pieces, "c") == {"art", "art."}  # as cart, or cart and a dot
    assert allowed(pieces, "c", "art") == {"start", "end", "(", ".", "(c", '"', " "}
    assert allowed(pieces, "c", "art.") == {"start", "end", *pieces.texts[2:]} - {"(x"}
    assert allowed(pieces, '"') == {"start", "end", *pieces.texts[2:]}
    assert "x" in allowed(pieces, "Foo")


def test_after_an_unknown_name_inside_a_token_anything_may_follow():
    pieces = Pieces('"', '",y', "x")
    assert allowed(pieces, '"', '",y') == {"start", "end", '"', '",y', "x"}


@pytest.fixture(scope="module")
def tokenizer():
    from models.seq2seq.loading import train_tokenizer

    return train_tokenizer([INPUT, "assertEquals(3, other.thing(), yours); int xs = list.size();"] * 4, 200)


@pytest.fixture(scope="module")
def models(tokenizer):
    end = tokenizer.eos_token_id
    often = {end, *tokenizer(INPUT)["input_ids"]}
    return [model_without_ties(len(tokenizer), seed=seed, end=end, often=often) for seed in (1, 4, 5)]


def strangers(text: str, source: str) -> set[str]:
    """Names of variables in the text that are not in the input. Literals, and names after a dot, do not count.

    ASCII letters only: a random model also joins single bytes to other letters, which no token shows.
    """
    bare = re.sub(r"\"(\\.|[^\"\\])*(\"|$)|'(\\.|[^'\\])*('|$)", '""', text)
    names = set(re.findall(r"(?<![\w$.])(?<!::)[a-z_$][\w$]*(?=[^\w$])", re.sub(r"\.\s+", ".", bare), re.ASCII))
    return names - set(re.findall(r"[\w$]+", source))


@pytest.mark.parametrize("beams", [1, 3])
def test_a_random_model_writes_only_names_of_the_input(models, tokenizer, beams):
    rows = [tokenizer(INPUT)["input_ids"][start:][:length] for start in range(0, 40, 4) for length in (5, 20)]
    sources = tokenizer.batch_decode(rows, skip_special_tokens=True)
    inputs = pad_rows(rows, 0)
    options = {"max_new_tokens": 40, "num_beams": beams, "num_return_sequences": beams}
    vocabulary = NameVocabulary(tokenizer, len(tokenizer))

    def written(model, *constraints):
        found = decode(model, inputs, (inputs != 0).long(), constraints=LogitsProcessorList(constraints), **options)
        texts = tokenizer.batch_decode(found, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return set().union(*(strangers(text, sources[place // beams]) - ALWAYS for place, text in enumerate(texts)))

    free = set()
    for model in models:
        free |= written(model)
        assert not written(model, NameConstraint(vocabulary, sources, beams))
    assert len(free) > 3


@pytest.mark.parametrize("beams", [1, 3])
def test_each_row_keeps_its_own_names_when_others_leave_the_batch(models, tokenizer, beams, monkeypatch):
    let_go = []
    keep = NameConstraint.keep
    monkeypatch.setattr(NameConstraint, "keep", lambda self, rows: let_go.append(rows) or keep(self, rows))
    rows = [tokenizer(INPUT)["input_ids"][start:end] for start, end in ((0, 3), (0, 12), (10, 30), (25, 60))]
    options = GenerationOptions(
        max_output_len=16, batch_size=4, num_beams=beams, num_return_sequences=beams, decoding="names"
    )
    for model in models:
        alone = [generate_candidates(TorchWriter(model, tokenizer), [row], options)[0] for row in rows]
        assert generate_candidates(TorchWriter(model, tokenizer), rows, options) == alone
    assert bool(let_go) == (beams == 1)  # with beams the library keeps all rows


def test_token_texts_keep_a_leading_blank():
    pytest.importorskip("tokenizers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<pad>": 0, "(": 1, "▁cart": 2, "cart": 3}, unk_token="<pad>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    whole = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>")
    assert token_texts(whole, 5) == ("", "(", " cart", "cart", "")
