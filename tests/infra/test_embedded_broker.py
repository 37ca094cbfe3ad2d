from infra.embedded_broker import bounded_disk


def test_a_small_bound_makes_small_segments_since_the_newest_one_is_kept() -> None:
    properties = bounded_disk(1 << 20)
    assert properties["log.retention.bytes"] == properties["log.segment.bytes"] == str(1 << 20)
    assert bounded_disk(32 << 20)["log.segment.bytes"] == str(4 << 20)
