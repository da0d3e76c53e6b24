"""Write the checkpoint's tokenizer to the artifact."""
