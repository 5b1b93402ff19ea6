"""The tables of the report: their columns, and what each row is filtered by."""
