"""Plans for long lists: which few items are ranked next, and what their rankings say of all of them."""
