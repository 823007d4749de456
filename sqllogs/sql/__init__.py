"""What a statement is: its normalized text, what it does, which tables it names."""
