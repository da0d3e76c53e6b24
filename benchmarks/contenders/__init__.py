"""The contenders, one file each; `contender.py` says what a file has and lists them."""
