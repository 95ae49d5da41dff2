"""Contracts by which methods, rankers, relevances, formats and backends prove themselves, ours and those of plugins.

    from fairpos.testing.methods import check_method

    def test_my_method_keeps_the_contract():
        check_method(MyMethod(views=3))

Nothing here needs pytest; a broken contract is an AssertionError that tells every fault, not the first alone.
"""
