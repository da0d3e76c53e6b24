"""The checkpoint's tokenizer, as the artifact has it."""
