"""The plugin proves itself by the contracts of fairpos; run with `pytest` or `python test_contract.py`."""

import tempfile
from pathlib import Path

from fairpos_example.csv_pairs import CSV_PAIRS
from fairpos_example.longest import Longest
from fairpos_example.shuffled import Shuffled

from fairpos.testing.formats import check_format
from fairpos.testing.methods import check_method
from fairpos.testing.rankers import check_ranker


def test_the_method_keeps_its_contract():
    check_method(Shuffled(seed=7))


def test_the_ranker_keeps_its_contract():
    check_ranker(Longest())


def test_the_format_keeps_its_contract():
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "pairs.csv"
        sample.write_text('instruction,a,b,gold\n"2 + 2?",four,five,a\n"A prime, please.",7,9,\n', encoding="utf-8")
        check_format(CSV_PAIRS, sample)


if __name__ == "__main__":
    test_the_method_keeps_its_contract()
    test_the_ranker_keeps_its_contract()
    test_the_format_keeps_its_contract()
    print("the plugin keeps all contracts")
