"""What is done about more passages than a model's context holds."""
