"""What the clients ask. Imported in their environments too, so it needs nothing."""

TEXTS = [
    "Plants create oxygen through a process known as photosynthesis.",
    "John Smith works at Google in New York.",
    "What?! No -- really; (yes).",
    "café naïve résumé Ünïcödé 中国 🙂",
    "a",
]
QUERY = "Where does Mary live?"
DOCUMENTS = [
    "Mary lives in London, by the river.",
    "The cat sat on the mat.",
    "Paris is the capital of France.",
    "she has lived there since 1998",
]
PAIR = ("Mary lives in London.", "Mary lives in England.")
# More tokens than a model takes, a word each. Its beginning and its end have other words.
WORDS = ["cat", "sat", "dog"] * 120 + ["sun", "light"] * 170
LONG = " ".join(WORDS)
CANDIDATES = ["politics", "science", "sports"]
MASKED = "Plants create [MASK] through a process."
MASKED_TWICE = "Plants [MASK] oxygen through a [MASK]."
QUESTION = {"question": "Where does Mary live?", "context": " ".join(DOCUMENTS)}
