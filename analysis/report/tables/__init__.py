"""The tables of the report: what stands in which column, and what each row is filtered by."""
