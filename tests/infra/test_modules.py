from infra.modules import module_name


def test_a_checkout_names_its_folders() -> None:
    assert module_name("sse_edge") == "sse_edge"
