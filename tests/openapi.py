"""`make openapi`: many requests drawn from the OpenAPI document, and an account at the end."""

import argparse
import asyncio
import random
import sys

from tests.support.openapi_client import play

_EXAMPLES = 300


def main() -> None:
    """Play all roles; exit with 1 if an answer was not as documented, or the edge logged errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--examples", type=int, default=_EXAMPLES, help="requests of a role to an operation"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    account = asyncio.run(play(options.examples, options.seed))
    print(f"seed {options.seed}", *account.lines(), sep="\n")
    sys.exit(bool(account.faults or account.logged))


if __name__ == "__main__":
    main()
