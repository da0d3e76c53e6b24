"""The contenders: ways to serve a BERT checkpoint, with a module for each library."""
