"""Write codebleu.json: the values of codebleu 0.7.0 that our own CodeBLEU must agree with on whole methods.

pip install codebleu==0.7.0 tree-sitter==0.22.3 tree-sitter-java==0.21.0
python tests/evaluation/scores/golden/make_codebleu.py

That package orders variables by hash, so each pair is scored under eight hash seeds; one whose score depends on the
seed is refused. Tokens are separated by blanks, because it splits there; string literals hold none.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

METHODS = {
    "add": "int add ( int a , int b ) { int sum = a + b ; return sum ; }",
    "subtract": "int subtract ( int a , int b ) { return a - b ; }",
    "maximum": "int maximum ( int [ ] values ) { int best = values [ 0 ] ; for ( int i = 1 ; i < values . length ; "
    "i ++ ) { if ( values [ i ] > best ) { best = values [ i ] ; } } return best ; }",
    "maximum_each": "int maximum ( int [ ] values ) { int best = values [ 0 ] ; for ( int value : values ) "
    "{ if ( value > best ) { best = value ; } } return best ; }",
    "countdown": "int countdown ( int n ) { int steps = 0 ; while ( n > 0 ) { n -- ; steps = steps + 1 ; } "
    "return steps ; }",
    "branches": 'String sign ( int n ) { String s ; if ( n < 0 ) { s = "minus" ; } else if ( n == 0 ) { s = "zero" ; } '
    'else { s = "plus" ; } return s ; }',
    "branches_less": 'String sign ( int n ) { String s = "plus" ; if ( n < 0 ) { s = "minus" ; } return s ; }',
    "test": "public void adds ( ) { Sum sum = new Sum ( 2 ) ; int result = sum . plus ( 3 ) ; "
    "assertEquals ( 5 , result ) ; assertTrue ( sum . isKnown ( result ) ) ; }",
    "test_swapped": "public void adds ( ) { Sum sum = new Sum ( 2 ) ; int result = sum . plus ( 3 ) ; "
    "assertTrue ( sum . isKnown ( result ) ) ; assertEquals ( 5 , result ) ; }",
    "test_other": "public void adds ( ) { Sum sum = new Sum ( 2 ) ; int result = sum . plus ( 3 ) ; "
    'assertNotNull ( sum ) ; assertEquals ( "five" , sum . toString ( ) ) ; }',
    "broken": "int add ( int a , int b ) { int sum = a + ; return sum",
    "throws": "void rejects ( ) { Parser parser = new Parser ( ) ; assertThrows ( ParseException . class , ( ) -> "
    "parser . parse ( null ) ) ; }",
}
PAIRS = [
    ("add", "add"),
    ("add", "subtract"),
    ("subtract", "add"),
    ("maximum", "maximum_each"),
    ("maximum_each", "maximum"),
    ("countdown", "maximum"),
    ("countdown", "countdown"),
    ("branches", "branches_less"),
    ("branches_less", "branches"),
    ("test", "test_swapped"),
    ("test", "test_other"),
    ("test_other", "test"),
    ("add", "broken"),
    ("test", "throws"),
    ("throws", "test"),
    ("add", "countdown"),
]
# What it makes of single assertions as models write them (docs/evaluation.md): reference, prediction.
TRAPS = [
    ("assertTrue(true);", ""),
    ("assertTrue(true);", "fail(1);"),
    ("assertTrue(true);", "assertTrue(true);"),
    ("assertEquals(4, result);", "assertEquals(4,result);"),
]
SCORE = """
import json, sys
from codebleu import calc_codebleu
print(json.dumps([calc_codebleu([r], [h], lang="java") for r, h in json.load(sys.stdin)]))
"""


def main() -> None:
    texts = json.dumps([*([METHODS[reference], METHODS[hypothesis]] for reference, hypothesis in PAIRS), *TRAPS])
    runs = []
    for seed in range(8):
        done = subprocess.run(
            [sys.executable, "-c", SCORE],
            input=texts,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        )
        runs.append(json.loads(done.stdout))
    rows = []
    for index, (reference, hypothesis) in enumerate(PAIRS):
        if any(run[index] != runs[0][index] for run in runs):
            sys.exit(f"the score of {hypothesis} for {reference} depends on the hash seed; choose another pair")
        rows.append({"reference": METHODS[reference], "hypothesis": METHODS[hypothesis], **runs[0][index]})
    traps = [
        {"reference": reference, "hypothesis": hypothesis, "codebleu": found["codebleu"]}
        for (reference, hypothesis), found in zip(TRAPS, runs[0][len(PAIRS) :], strict=True)
    ]
    document = {
        "command": "python tests/evaluation/scores/golden/make_codebleu.py",
        "package": "codebleu==0.7.0",
        "pairs": rows,
        "traps": traps,
    }
    Path(__file__).with_name("codebleu.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
