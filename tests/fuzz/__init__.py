"""Coverage-guided fuzzing of the look at pictures and of their decoding; `test_fuzz.py` runs both for a while."""
