"""Do a sentence and a picture fit each other? Three models of it; `config` describes them."""
