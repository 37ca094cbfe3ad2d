from producers.demo.notice import describe


def test_the_notice_names_the_data_their_days_and_the_speed() -> None:
    text = describe(40.0)
    for part in ("AAPL, FB, GOOG, IBM and MSFT", "from 2000-03-01 to 2013-03-01", "at 40 trading"):
        assert part in text
