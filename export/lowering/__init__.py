"""From the traced graph to the dialect's operators, one fusion a file; `pipeline` lists them."""
