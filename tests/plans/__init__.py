"""Plans for long lists."""
