"""The marts counted a second time, in Polars and without the SQL, to prove the SQL."""
