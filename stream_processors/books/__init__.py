"""Risk of trees of books, such as desk, fund and firm. Pure."""
