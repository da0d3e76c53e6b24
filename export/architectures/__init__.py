"""The encoders that bertrt exports, one file for what each family differs in from BERT."""
