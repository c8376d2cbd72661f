"""A run with a journal: the same run, some of whose parts record what they are asked, or compare it with the record."""
