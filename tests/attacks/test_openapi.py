"""Whatever fits the OpenAPI document, and what does not, is answered as the document says.

`make openapi` draws many more requests.
"""

from tests.support.openapi_client import play, roles


async def test_three_callers_get_documented_answers_and_no_5xx() -> None:
    account = await play(examples=2, seed_of_run=1)
    assert account.faults == {}, "\n".join(account.lines())
    assert account.logged == []
    assert not [status for _, status in account.answers if status >= 500]
    assert {role for role, status in account.answers if status == 200} == set(roles())
    # Nobody gets further than what is open to all.
    assert {status for role, status in account.answers if role == "nobody"} == {200, 401}
