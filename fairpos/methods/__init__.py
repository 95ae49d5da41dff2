"""What there is against position bias: one published method a file. `catalogue` lists and parses them."""
