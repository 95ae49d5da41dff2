"""What a model wrote, read strictly: a ranking, a verdict, or nothing that counts."""
